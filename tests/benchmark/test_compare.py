from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from label_files import write_labels

from app.benchmark.cases import Scan
from app.benchmark.compare import compare, dice_per_organ, mean_dice

LIVER, SPLEEN = 1, 3


class Scripted:
    """A system that takes a second more with each run and writes one label map."""

    def __init__(self, name, labels, make_run, log):
        self.name, self.labels, self.make_run, self.log = name, labels, make_run, log

    def run(self, scans, results):
        assert list(results.iterdir()) == []
        assert ":" not in str(results)  # Docker's --volume ends a path there
        self.log.append(self.name)
        write_labels(results / "case.nii.gz", self.labels)
        wall_s = float(self.log.count(self.name) ** 2)
        return self.make_run(wall_s=wall_s, peak_mib=100.0 * wall_s)


def labels(*liver_slices):
    array = np.zeros((4, 2, 3), np.uint8)
    array[list(liver_slices)] = LIVER
    return array


def scan_with(truth=None):
    return Scan(
        name="5:30", folder=Path(), truth=truth, shape=(4, 2, 3), spacing_mm=(3.0, 2.0, 1.0),
        sha256="",
    )  # fmt: skip


def test_systems_run_in_turn_and_medians_and_the_highest_peak_count(tmp_path, make_run):
    log = []
    ours = Scripted("ours", labels(0), make_run, log)
    theirs = Scripted("theirs", labels(0, 1), make_run, log)
    truth = write_labels(tmp_path / "truth.nii.gz", labels(0, 1, 2))
    result = compare(scan_with(truth), ours, theirs, repeat=3, scratch=tmp_path)
    assert log == 3 * ["ours", "theirs"]
    assert (result.ours.seconds, result.ours.peak_mib) == (4.0, 900.0)  # of 1, 4, 9
    assert result.time_ratio == result.memory_ratio == 1.0
    assert result.between["liver"] == pytest.approx(2 / 3)  # 2 * 1 / (1 + 2) slices
    assert result.truth["liver"] == 0.5  # 2 * 1 / (1 + 3)
    assert result.their_truth["liver"] == 0.8
    assert result.between["spleen"] is None


def test_alone_there_is_nothing_to_compare(tmp_path, make_run):
    result = compare(
        scan_with(), Scripted("ours", labels(0), make_run, []), None, repeat=1, scratch=tmp_path
    )
    assert result.theirs is result.between is result.truth is result.time_ratio is None


def test_label_maps_that_cannot_be_compared_are_told_and_the_figures_stay(
    tmp_path, make_run, caplog
):
    truth = write_labels(tmp_path / "truth.nii.gz", np.zeros((4, 3, 3), np.uint8))
    system = Scripted("ours", labels(0), make_run, [])
    result = compare(scan_with(truth), system, None, repeat=1, scratch=tmp_path)
    assert (result.truth, result.ours.seconds) == (None, 1.0)
    (reason,) = result.not_compared
    assert "different grids: (4, 2, 3) voxels (z, y, x), not (4, 3, 3)" in reason
    assert reason in caplog.text
    write_labels(truth, labels(0), origin_xyz=(0.0, 0.5, 0.0))
    result = compare(scan_with(truth), system, None, repeat=1, scratch=tmp_path)
    assert result.truth is None
    assert "corners up to 0.5 mm apart" in result.not_compared[0]
    write_labels(truth, labels(0).astype(np.int16) * (256 + LIVER))  # would pass for liver in uint8
    result = compare(scan_with(truth), system, None, repeat=1, scratch=tmp_path)
    assert result.truth is None
    assert "values from 0 to 257" in result.not_compared[0]
    truth.write_text("no image")
    assert compare(scan_with(truth), system, None, repeat=1, scratch=tmp_path).truth is None
    assert "no NIfTI header found" in caplog.text


def test_one_grid_stored_in_two_orders_is_one_grid(tmp_path, make_run):
    """Compared voxel by voxel as they lie in the files, the livers would not meet."""
    image = sitk.GetImageFromArray(labels(0, 1))
    image.SetSpacing((1.0, 2.0, 3.0))
    truth = tmp_path / "truth.nii.gz"
    sitk.WriteImage(image[:, :, ::-1], truth)
    system = Scripted("ours", labels(0), make_run, [])
    result = compare(scan_with(truth), system, None, repeat=1, scratch=tmp_path)
    assert result.truth["liver"] == pytest.approx(2 / 3)  # 2 * 1 / (1 + 2) slices
    assert result.not_compared == ()


def test_a_system_that_leaves_no_label_map_is_told(tmp_path, make_run):
    class Idle:
        name = "idle"

        def run(self, scans, results):
            return make_run()

    busy = Scripted("busy", labels(0), make_run, [])
    result = compare(scan_with(), busy, Idle(), repeat=1, scratch=tmp_path)
    assert (result.without_labels, result.between) == (("idle",), None)


def test_dice_of_each_organ_and_their_mean():
    one, other = np.zeros((2, 4, 5, 6), np.uint8)
    one[:2, 0, 0], other[1:, 0, 0] = LIVER, LIVER  # 2 and 3 slices, 1 shared
    one[0, 4:, 4:] = SPLEEN
    agreement = dice_per_organ(one, other)
    assert agreement["liver"] == pytest.approx(2 / 5)
    assert agreement["spleen"] == 0.0
    assert agreement["aorta"] is None
    assert mean_dice({"a": 0.5, "b": None, "c": 1.0}) == 0.75
    assert mean_dice(None) is mean_dice({"a": None}) is None


def test_a_run_without_a_known_peak_leaves_the_highest_unknown(make_run, make_result):
    result = make_result([make_run(), make_run(peak_mib=None)], [make_run()])
    assert result.ours.peak_mib is result.memory_ratio is None
    assert result.ratio(lambda runs: runs.memory_area_mib_s) == 1.0
