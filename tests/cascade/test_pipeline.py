"""The whole way, from a file to a file, with stand-in networks."""

import dataclasses
from itertools import permutations, product

import numpy as np
import pytest
import SimpleITK as sitk
from scipy.spatial.transform import Rotation
from stand_ins import BRIGHT_HU, BRIGHT_ORGAN, DARK_ORGAN, TISSUE_HU, source_of

from app.cascade import pipeline
from app.cascade.bundle import hurried
from app.cascade.memory import MIB
from app.cascade.pipeline import label_scan, locate_scan, segment_scan
from app.cascade.placement import place_patches
from app.cascade.plausibility import Flag
from app.cascade.regrow import find_cuts
from app.cascade.report import CaseReport
from app.cascade.segment import Region, blank_scores
from app.errors import MemoryLimitError, ScoresError
from app.imaging.geometry import Box, Geometry
from app.imaging.io import peek

GALLBLADDER = 9
FAT_HU = -90  # what every CT scan shows, and the stand-ins take for tissue
ORIENTATIONS = list(product(permutations(range(3)), product((1, -1), repeat=3)))


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def stored(array, axes, signs):
    """Lay an LPS array out in another orientation."""
    return np.transpose(array, axes)[tuple(slice(None, None, sign) for sign in signs)]


def write_scan(path, array, spacing_mm, axes=(0, 1, 2), signs=(1, 1, 1), tilt=None):
    """Write an LPS array in another orientation, at the same place in the world."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(stored(array, axes, signs)))
    # World axes are x, y, z; array axis i runs along world axis 2 - axes[i].
    direction = np.zeros((3, 3))
    for column, (axis, sign) in enumerate(zip(axes[::-1], signs[::-1], strict=True)):
        direction[2 - axis, column] = sign
    if tilt is not None:
        direction = tilt @ direction
    image.SetSpacing([float(spacing_mm[axis]) for axis in axes[::-1]])
    image.SetDirection(direction.ravel())
    image.SetOrigin((-40.0, 25.0, 310.0))
    sitk.WriteImage(image, path)


def check_header(label_path, scan_path):
    label_map, scan = sitk.ReadImage(label_path), sitk.ReadImage(scan_path)
    assert label_map.GetPixelID() == sitk.sitkUInt8
    assert label_map.GetSize() == scan.GetSize()
    assert label_map.GetSpacing() == scan.GetSpacing()
    assert label_map.GetOrigin() == scan.GetOrigin()
    assert label_map.GetDirection() == pytest.approx(scan.GetDirection(), abs=1e-9)
    return sitk.GetArrayFromImage(label_map)


class Watched:
    """A network that remembers what it was shown, and what was asked of it."""

    def __init__(self, network, calls=None):
        self.network = network
        self.patch_shape, self.num_channels = network.patch_shape, network.num_channels
        self.patches = []
        self.calls = [] if calls is None else calls

    def run(self, patch):
        self.calls.append(("run", self.num_channels))
        self.patches.append(patch)
        return self.network.run(patch)

    def release(self):
        self.calls.append(("release", self.num_channels))
        self.network.release()


def watched_run(folder, cascade, array, spacing_mm, axes, signs):
    """Segment one orientation; give the label map and all patches shown to the networks."""
    scan_path, label_path = folder / "scan.nii", folder / "labels.nii"
    write_scan(scan_path, array, spacing_mm, axes, signs)
    locator, segmenter = Watched(cascade.locate.network), Watched(cascade.segment.network)
    watched = dataclasses.replace(
        cascade,
        locate=dataclasses.replace(cascade.locate, network=locator),
        segment=dataclasses.replace(cascade.segment, network=segmenter),
    )
    segment_scan(scan_path, label_path, watched)
    return check_header(label_path, scan_path), locator.patches + segmenter.patches


@pytest.fixture(scope="module")
def as_lps(tmp_path_factory, cascade, body):
    hu, _, spacing_mm = body
    folder = tmp_path_factory.mktemp("lps")
    return watched_run(folder, cascade, hu, spacing_mm, *ORIENTATIONS[0])


def test_organs_come_out_where_they_are(as_lps, body):
    _, labels, _ = body
    found, _ = as_lps
    for value in (BRIGHT_ORGAN, DARK_ORGAN):
        assert dice(found == value, labels == value) > 0.95
    assert set(np.unique(found)) == {0, BRIGHT_ORGAN, DARK_ORGAN}


@pytest.mark.parametrize(("axes", "signs"), ORIENTATIONS)
def test_all_48_orientations_show_the_networks_the_same_and_give_the_same_organs(
    tmp_path, cascade, body, as_lps, axes, signs
):
    hu, _, spacing_mm = body
    expected, expected_patches = as_lps
    found, patches = watched_run(tmp_path, cascade, hu, spacing_mm, axes, signs)
    assert np.array_equal(found, stored(expected, axes, signs))
    for patch, expected_patch in zip(patches, expected_patches, strict=True):
        assert np.array_equal(patch, expected_patch)


def test_tilted_scan_is_segmented_and_stays_tilted(tmp_path, cascade, body):
    hu, labels, spacing_mm = body
    tilt = Rotation.from_euler("xyz", [12, -7, 20], degrees=True).as_matrix()
    scan_path, label_path = tmp_path / "scan.nrrd", tmp_path / "labels.nrrd"
    write_scan(scan_path, hu, spacing_mm, (1, 0, 2), (1, -1, 1), tilt)
    segment_scan(scan_path, label_path, cascade)
    found = check_header(label_path, scan_path)
    assert dice(found > 0, stored(labels, (1, 0, 2), (1, -1, 1)) > 0) > 0.95


def test_report_tells_box_volumes_times_and_memory(tmp_path, cascade, body):
    hu, labels, spacing_mm = body
    write_scan(tmp_path / "scan.nii.gz", hu, spacing_mm)
    report = segment_scan(tmp_path / "scan.nii.gz", tmp_path / "labels.nii.gz", cascade)
    assert list(report.seconds) == ["read", "locate", "segment", "restore", "check", "write"]
    assert report.peak_mib > 50
    assert report.planned_mib > 500
    # A ball of 32 mm has 4/3 pi 3.2**3 = 137 ml, one of 28 mm 92 ml.
    assert report.volumes_ml["liver"] == pytest.approx(137, rel=0.05)
    assert report.volumes_ml["spleen"] == pytest.approx(92, rel=0.05)
    assert report.volumes_ml["aorta"] == 0
    # Fine but for the size of the liver: the lowest in people is 910 ml, room for doubt 1.25.
    assert [(flag.code, flag.organ) for flag in report.flags] == [("volume_low", "liver")]
    assert report.warnings == [f"smaller than usual: liver ({report.flags[0].text})"]
    assert report.num_patches > 0
    # Slices 8 ... 35 hold the balls; 10 mm more are 2 slices.
    assert report.box.start[0] in (4, 5, 6)
    assert report.box.stop[0] in (38, 39, 40)
    inside = labels[report.box.slices]
    assert (inside > 0).sum() == (labels > 0).sum()


def test_no_patch_is_run_where_phase_one_saw_nothing(tmp_path, cascade):
    hu = np.full((26, 40, 90), TISSUE_HU, np.int16)
    # 200 mm apart from right to left; a patch is 96 mm wide.
    for corner in (np.s_[2:12, 4:20, 2:14], np.s_[14:24, 22:38, 66:78]):
        hu[corner] = BRIGHT_HU
    write_scan(tmp_path / "scan.nii", hu, (5.0, 3.0, 4.0))
    report = segment_scan(tmp_path / "scan.nii", tmp_path / "labels.nii", cascade)
    phase = cascade.segment
    around_both = np.ones((65, 80, 219), bool)  # 130 x 120 x 328 mm at 2 x 1.5 x 1.5
    starts = place_patches(around_both, phase.network.patch_shape, phase.config.overlap)
    assert report.num_patches < 0.6 * len(starts)
    found = sitk.GetArrayFromImage(sitk.ReadImage(tmp_path / "labels.nii"))
    assert dice(found == BRIGHT_ORGAN, hu == BRIGHT_HU) > 0.95


def test_scan_without_an_abdomen_gives_an_empty_label_map_and_a_warning(tmp_path, cascade):
    hu = np.full((20, 30, 40), TISSUE_HU, np.int16)
    hu[0] = FAT_HU
    write_scan(tmp_path / "scan.nii.gz", hu, (5.0, 3.0, 4.0))
    report = segment_scan(tmp_path / "scan.nii.gz", tmp_path / "labels.nii.gz", cascade)
    assert not check_header(tmp_path / "labels.nii.gz", tmp_path / "scan.nii.gz").any()
    assert report.box is None
    assert any("no abdominal organs" in warning for warning in report.warnings)
    assert [flag.code for flag in report.flags] == ["no_abdomen"]


def test_scan_without_negative_intensities_is_suspicious(tmp_path, cascade):
    write_scan(tmp_path / "scan.nii", np.full((9, 10, 11), 1074, np.int16), (5.0, 3.0, 4.0))
    report = segment_scan(tmp_path / "scan.nii", tmp_path / "labels.nii", cascade)
    assert any("HU" in warning for warning in report.warnings)


def test_scan_over_the_memory_cap_is_refused_and_nothing_is_written(tmp_path, cascade, body):
    hu, _, spacing_mm = body
    write_scan(tmp_path / "scan.nii", hu, spacing_mm)
    small = dataclasses.replace(cascade, memory_limit_bytes=100 * MIB)
    with pytest.raises(MemoryLimitError, match="0.1 GiB are allowed"):
        segment_scan(tmp_path / "scan.nii", tmp_path / "labels.nii", small)
    assert [path.name for path in tmp_path.iterdir()] == ["scan.nii"]


@pytest.mark.parametrize("shape", [(1, 62, 54), (44, 1, 54), (2, 3, 4)])
def test_scan_of_hardly_any_voxels_is_no_crash(tmp_path, cascade, shape):
    hu = np.full(shape, BRIGHT_HU, np.int16)
    hu[0] = -500
    write_scan(tmp_path / "scan.nii", hu, (5.0, 3.0, 4.0))
    segment_scan(tmp_path / "scan.nii", tmp_path / "labels.nii", cascade)
    check_header(tmp_path / "labels.nii", tmp_path / "scan.nii")


class Blinkered:
    """A locator that sees only the lower part of the organs."""

    patch_shape = (32, 64, 32)
    num_channels = 1

    def run(self, patch):
        scores = np.abs(patch[None]) - 1
        scores[:, 16:] = -1
        return scores

    def release(self):
        pass


@pytest.fixture
def cut_organ(tmp_path, cascade):
    """Give a scan with one organ, and a cascade whose phase one sees it only in part."""
    hu = np.full((24, 62, 54), TISSUE_HU, np.int16)
    hu[4:21, 15:45, 10:40] = BRIGHT_HU  # 20 ... 105 mm; phase one sees it up to 64 mm
    hu[0] = FAT_HU
    write_scan(tmp_path / "scan.nii", hu, (5.0, 3.0, 4.0))
    phase_one = dataclasses.replace(cascade.locate, network=Blinkered())
    return hu, dataclasses.replace(cascade, locate=phase_one)


def test_organ_cut_by_the_box_gets_a_larger_one(tmp_path, cut_organ):
    hu, blinkered = cut_organ
    report = segment_scan(tmp_path / "scan.nii", tmp_path / "labels.nii", blinkered)
    found = sitk.GetArrayFromImage(sitk.ReadImage(tmp_path / "labels.nii"))
    assert dice(found == BRIGHT_ORGAN, hu == BRIGHT_HU) > 0.97
    assert report.box.stop[0] > 21  # the organ's end; phase one's box ends at 74 mm, in slice 14
    assert report.warnings == []


def test_the_larger_box_ends_where_the_second_look_found_the_organ_to_end(tmp_path, cut_organ):
    hu, blinkered = cut_organ
    hu[16:] = TISSUE_HU  # at 80 mm; the second look reaches to 114 mm
    hu[-1] = FAT_HU
    write_scan(tmp_path / "scan.nii", hu, (5.0, 3.0, 4.0))
    report = segment_scan(tmp_path / "scan.nii", tmp_path / "labels.nii", blinkered)
    found = sitk.GetArrayFromImage(sitk.ReadImage(tmp_path / "labels.nii"))
    assert dice(found == BRIGHT_ORGAN, hu == BRIGHT_HU) > 0.97
    # 10 mm beyond the organ, as around what phase one found, on a grid of whole voxels.
    assert report.box.stop[0] in (18, 19)


class Generous:
    """A locator that takes all it is shown for organs."""

    patch_shape = (32, 64, 32)
    num_channels = 1

    def run(self, patch):
        return np.ones_like(patch[None])

    def release(self):
        pass


def test_the_box_ends_around_the_organs_where_phase_one_took_more_for_them(tmp_path, cascade):
    hu = np.full((40, 62, 54), TISSUE_HU, np.int16)
    hu[12:28, 15:40, 20:] = BRIGHT_HU  # to the scan's left end
    hu[0] = FAT_HU
    write_scan(tmp_path / "scan.nii", hu, (5.0, 3.0, 4.0))
    phase_one = dataclasses.replace(cascade.locate, network=Generous())
    generous = dataclasses.replace(cascade, locate=phase_one)
    report = segment_scan(tmp_path / "scan.nii", tmp_path / "labels.nii", generous)
    found = sitk.GetArrayFromImage(sitk.ReadImage(tmp_path / "labels.nii"))
    assert dice(found == BRIGHT_ORGAN, hu == BRIGHT_HU) > 0.97
    assert np.count_nonzero(found) == np.count_nonzero(found[report.box.slices])
    # 10 mm are 2, 3.3 and 2.5 voxels, on a grid of whole voxels.
    assert report.box.start[0] in (9, 10)
    assert report.box.start[1] in (11, 12)
    assert report.box.start[2] in (16, 17, 18)
    assert report.box.stop[0] in (30, 31)
    assert report.box.stop[1] in (43, 44)
    assert report.box.stop[2] == 54


def test_a_hurried_cascade_warns_of_the_cut_organ_and_looks_no_second_time(tmp_path, cut_organ):
    _, blinkered = cut_organ
    scan_path, label_path = tmp_path / "scan.nii", tmp_path / "labels.nii"
    thorough = segment_scan(scan_path, label_path, blinkered)
    report = segment_scan(scan_path, label_path, hurried(blinkered))
    assert report.warnings[0] == "the liver may be cut off by the located box"
    codes = [(flag.code, flag.organ) for flag in report.flags]
    assert codes == [("cut_by_box", "liver"), ("volume_low", "liver")]
    assert report.num_patches < thorough.num_patches
    assert report.box.stop[0] < thorough.box.stop[0]


class BlindBelow(Blinkered):
    """A locator that sees nothing of the lowest 40 mm."""

    def run(self, patch):
        scores = np.abs(patch[None]) - 1
        scores[:, :11] = -1  # the patch is 128 mm high, the scan 120 mm
        return scores


def test_what_lies_below_is_found_without_a_second_look(tmp_path, cascade):
    hu = np.full((24, 62, 54), TISSUE_HU, np.int16)
    hu[4:14, 15:45, 10:40] = BRIGHT_HU  # 20 ... 70 mm; phase one's box begins at 30 mm
    hu[0] = FAT_HU
    write_scan(tmp_path / "scan.nii", hu, (5.0, 3.0, 4.0))
    blind = dataclasses.replace(
        hurried(cascade), locate=dataclasses.replace(cascade.locate, network=BlindBelow())
    )
    report = segment_scan(tmp_path / "scan.nii", tmp_path / "labels.nii", blind)
    found = sitk.GetArrayFromImage(sitk.ReadImage(tmp_path / "labels.nii"))
    assert dice(found == BRIGHT_ORGAN, hu == BRIGHT_HU) > 0.97
    assert report.box.start[0] in (1, 2)  # 10 mm below the organ
    assert "cut_by_box" not in [flag.code for flag in report.flags]


def test_an_organ_cut_at_several_faces_is_told_of_once(tmp_path, cut_organ, monkeypatch):
    _, blinkered = cut_organ
    monkeypatch.setattr("app.cascade.pipeline.find_cuts", lambda scores: 3 * find_cuts(scores))
    report = segment_scan(tmp_path / "scan.nii", tmp_path / "labels.nii", hurried(blinkered))
    assert [flag.code for flag in report.flags].count("cut_by_box") == 1


def as_tubes(scores):
    return [dataclasses.replace(cut, organ="aorta") for cut in find_cuts(scores)]


def test_a_tube_that_goes_on_is_looked_after_and_not_told_of(tmp_path, cut_organ, monkeypatch):
    hu, blinkered = cut_organ
    monkeypatch.setattr("app.cascade.pipeline.find_cuts", as_tubes)
    scan_path, label_path = tmp_path / "scan.nii", tmp_path / "labels.nii"
    assert segment_scan(scan_path, label_path, blinkered).warnings == []
    found = sitk.GetArrayFromImage(sitk.ReadImage(label_path))
    assert dice(found == BRIGHT_ORGAN, hu == BRIGHT_HU) > 0.97
    report = segment_scan(scan_path, label_path, hurried(blinkered))
    assert "cut_by_box" not in [flag.code for flag in report.flags]


def test_organs_are_looked_after_where_memory_does_not_suffice_for_tubes(
    tmp_path, cut_organ, monkeypatch
):
    hu, blinkered = cut_organ
    tried = []

    def fits_once_tubes_are_left_out(region, *_):
        tried.append(region)
        return len(tried) > 1

    monkeypatch.setattr("app.cascade.pipeline._fits", fits_once_tubes_are_left_out)
    monkeypatch.setattr(
        "app.cascade.pipeline.find_cuts", lambda scores: [*find_cuts(scores), *as_tubes(scores)]
    )
    segment_scan(tmp_path / "scan.nii", tmp_path / "labels.nii", blinkered)
    found = sitk.GetArrayFromImage(sitk.ReadImage(tmp_path / "labels.nii"))
    assert dice(found == BRIGHT_ORGAN, hu == BRIGHT_HU) > 0.97
    assert len(tried) == 2


def test_what_was_freed_goes_back_before_a_scan_and_before_scores_move(
    tmp_path, cut_organ, monkeypatch
):
    _, blinkered = cut_organ
    in_order = []
    for name in ("return_freed_memory", "read_scan", "locate", "enlarge"):
        real = getattr(pipeline, name)

        def noted(*arguments, name=name, real=real):
            in_order.append(name)
            return real(*arguments)

        monkeypatch.setattr(pipeline, name, noted)
    segment_scan(tmp_path / "scan.nii", tmp_path / "labels.nii", blinkered)
    assert in_order == [
        *("return_freed_memory", "read_scan", "locate"),
        *("return_freed_memory", "return_freed_memory", "enlarge"),
    ]


class Overflowing(Watched):
    """Gives no number for one voxel of a patch."""

    def run(self, patch):
        scores = self.network.run(patch).copy()
        scores[-1, 17, 19, 21] = np.nan
        return scores


@pytest.mark.parametrize(("phase", "told"), [("locate", "phase one"), ("segment", "phase two")])
def test_scores_that_are_no_numbers_are_told_with_scan_and_phase(
    tmp_path, cascade, body, phase, told
):
    hu, _, spacing_mm = body
    scan_path, label_path = tmp_path / "scan.nii", tmp_path / "labels.nii"
    write_scan(scan_path, hu, spacing_mm)
    sound = getattr(cascade, phase)
    broken = dataclasses.replace(sound, network=Overflowing(sound.network))
    overflowing = dataclasses.replace(cascade, **{phase: broken})
    with pytest.raises(ScoresError, match=rf"scan\.nii: {told}: .*--precision f32"):
        segment_scan(scan_path, label_path, overflowing)
    assert not label_path.exists()
    if phase == "locate":
        with pytest.raises(ScoresError, match=rf"scan\.nii: {told}: "):
            locate_scan(scan_path, overflowing)


class HalfBlind(Watched):
    """Sees no organ in the further half of a patch."""

    def run(self, patch):
        scores = self.network.run(patch).copy()
        scores[0, len(patch) // 2 :] += 100
        return scores


def test_phase_one_gives_its_memory_back_before_phase_two_takes_its_own(tmp_path, cascade, body):
    hu, _, spacing_mm = body
    write_scan(tmp_path / "scan.nii", hu, spacing_mm)
    calls = []
    locator, segmenter = (
        Watched(phase.network, calls) for phase in (cascade.locate, cascade.segment)
    )
    watched = dataclasses.replace(
        cascade,
        locate=dataclasses.replace(cascade.locate, network=locator),
        segment=dataclasses.replace(cascade.segment, network=segmenter),
    )
    segment_scan(tmp_path / "scan.nii", tmp_path / "labels.nii", watched)
    in_order = list(dict.fromkeys(calls))
    assert in_order == [("run", 1), ("release", 1), ("run", 14)]


def test_little_labeled_of_what_phase_one_located_is_told(tmp_path, cascade):
    hu = np.full((24, 62, 54), TISSUE_HU, np.int16)
    hu[1:20, 15:45, 10:40] = BRIGHT_HU
    hu[0, 0, 0] = -1000
    write_scan(tmp_path / "scan.nii", hu, (5.0, 3.0, 4.0))
    blind = dataclasses.replace(cascade.segment, network=HalfBlind(cascade.segment.network))
    blind = dataclasses.replace(cascade, segment=blind)
    for judged, told in ((cascade, False), (blind, True)):
        report = segment_scan(tmp_path / "scan.nii", tmp_path / "labels.nii", judged)
        assert ("little_labeled" in [flag.code for flag in report.flags]) == told


def test_larger_box_that_does_not_fit_leaves_the_first_result_and_a_warning(
    tmp_path, cut_organ, monkeypatch
):
    hu, blinkered = cut_organ
    scan_path, label_path = tmp_path / "scan.nii", tmp_path / "labels.nii"
    # Of so small a scan phase one would need more than phase two.
    monkeypatch.setattr("app.cascade.memory.LOCATE_BYTES", 0)
    larger = segment_scan(scan_path, label_path, blinkered).box
    extent_mm = tuple(np.multiply(larger.shape, (5.0, 3.0, 4.0)).tolist())
    needed = blinkered.plan(peek(scan_path), extent_mm).peak_bytes
    capped = dataclasses.replace(blinkered, memory_limit_bytes=needed - 1)
    # The box that is assumed before phase one has run would not fit either.
    monkeypatch.setattr("app.cascade.memory.LARGE_REGION_MM", (10.0, 10.0, 10.0))
    report = segment_scan(scan_path, label_path, capped)
    assert report.box.stop[0] < larger.stop[0]
    assert report.warnings[0] == "the liver may be cut off by the located box"
    codes = [(flag.code, flag.organ) for flag in report.flags]
    assert codes == [("cut_by_box", "liver"), ("volume_low", "liver")]
    found = sitk.GetArrayFromImage(sitk.ReadImage(label_path)) == BRIGHT_ORGAN
    inside = hu[report.box.slices] == BRIGHT_HU
    assert dice(found[report.box.slices], inside) > 0.97


def segment_only(organs, tmp_path, cascade, body):
    hu, _, spacing_mm = body
    write_scan(tmp_path / "scan.nii", hu, spacing_mm)
    report = segment_scan(tmp_path / "scan.nii", tmp_path / "labels.nii", cascade, organs=organs)
    return report, sitk.GetArrayFromImage(sitk.ReadImage(tmp_path / "labels.nii"))


def test_an_organ_that_was_asked_for_and_is_not_there_makes_no_empty_result(
    tmp_path, cascade, body
):
    report, found = segment_only({GALLBLADDER}, tmp_path, cascade, body)
    assert not found.any()
    assert report.volumes_ml == {"gallbladder": 0}
    assert report.flags == []


def test_all_organs_are_checked_whichever_were_asked_for(tmp_path, cascade, body, monkeypatch):
    def judge(placements, _):
        assert set(placements) == {"liver", "spleen"}
        about = (("mirrored", None), ("volume_low", "liver"), ("volume_high", "spleen"))
        return [Flag(code=code, organ=organ, text="so") for code, organ in about]

    monkeypatch.setattr("app.cascade.pipeline.judge", judge)
    report, found = segment_only({DARK_ORGAN}, tmp_path, cascade, body)
    assert [flag.code for flag in report.flags] == ["mirrored", "volume_high"]
    assert set(report.volumes_ml) == {"spleen"}
    assert set(np.unique(found)) == {0, DARK_ORGAN}


def test_leaving_organs_out_takes_no_second_label_map(cascade, body, monkeypatch):
    _, labels, spacing_mm = body
    source = source_of(Geometry(shape=labels.shape, spacing_mm=spacing_mm))
    made = []

    def restored(scores, source):
        made.append(labels.copy())
        return made[0]

    monkeypatch.setattr("app.cascade.pipeline.restore", restored)
    whole = Box(start=(0, 0, 0), stop=labels.shape)
    region = Region(
        grid_shape=labels.shape, spacing_mm=spacing_mm, window=whole, located=whole, box=whole
    )
    kept = label_scan(blank_scores(region), source, CaseReport(), organs={DARK_ORGAN})
    assert np.shares_memory(kept, made[0])
    assert np.array_equal(kept, np.where(labels == DARK_ORGAN, DARK_ORGAN, 0))


def test_a_volume_that_is_warned_of_is_the_one_that_is_told(monkeypatch):
    labels = np.zeros((30, 40, 50), np.uint8)
    labels[1:15, 6:27, 8:31] = DARK_ORGAN  # of odd sizes: thinned voxels would give another volume
    spacing_mm = (1.0, 1.1, 1.2)
    monkeypatch.setattr("app.cascade.pipeline.restore", lambda *_: labels)
    whole = Box(start=(0, 0, 0), stop=labels.shape)
    region = Region(
        grid_shape=labels.shape, spacing_mm=spacing_mm, window=whole, located=whole, box=whole
    )
    report = CaseReport()
    source = source_of(Geometry(shape=labels.shape, spacing_mm=spacing_mm))
    label_scan(blank_scores(region), source, report)
    (text,) = (flag.text for flag in report.flags if flag.code == "volume_low")
    assert report.volumes_ml["spleen"] == pytest.approx(14 * 21 * 23 * 1.32 / 1000)
    assert text.startswith(f"{report.volumes_ml['spleen']:.1f} ml, ")


@pytest.mark.parametrize("organs", [{BRIGHT_ORGAN}, {DARK_ORGAN}])
def test_a_cut_is_told_only_of_organs_that_were_asked_for(tmp_path, cut_organ, organs):
    _, blinkered = cut_organ
    scan_path, label_path = tmp_path / "scan.nii", tmp_path / "labels.nii"
    report = segment_scan(scan_path, label_path, hurried(blinkered), organs=organs)
    assert ("cut_by_box" in [flag.code for flag in report.flags]) == (organs == {BRIGHT_ORGAN})
