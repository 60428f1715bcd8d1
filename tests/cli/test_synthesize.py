"""``python -m app synthesize``: files, names, orientation."""

import nibabel
import numpy as np
import pytest

from app.cli.main import main
from app.imaging.io import read_scan
from app.synthesis.files import ORIENTATIONS
from app.synthesis.phantom import make_phantom

SMALL = ["--size", "30x26x14", "--spacing", "14x15x24", "--phase", "portal"]


@pytest.fixture
def quick_phantom(monkeypatch):
    """Put noise in place of the phantom, where only files and their order matter."""

    def make(*, shape, spacing_mm, seed, phase):
        rng = np.random.default_rng(seed)
        scan = rng.integers(-1000, 1000, shape).astype(np.int16)
        return scan, rng.integers(0, 14, shape).astype(np.uint8)

    monkeypatch.setattr("app.synthesis.phantom.make_phantom", make)
    return make


def synthesize(*arguments):
    return main(["synthesize", *SMALL, *map(str, arguments)])


def test_scans_and_label_maps_are_written_in_pairs(tmp_path, capsys, quick_phantom):
    assert synthesize("--output", tmp_path, "--count", 2) == 0
    written = sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*.gz"))
    assert written == [
        "images/phantom_0001_0000.nii.gz",
        "images/phantom_0002_0000.nii.gz",
        "labels/phantom_0001.nii.gz",
        "labels/phantom_0002.nii.gz",
    ]
    said = capsys.readouterr().out
    assert "predict --input" in said


def test_a_file_holds_size_spacing_and_voxels_as_asked(tmp_path):
    path, labels_path = tmp_path / "case_0000.nii.gz", tmp_path / "out" / "case.nii.gz"
    assert synthesize("--output", path, "--labels", labels_path, "--seed", 3) == 0
    image = nibabel.load(path)
    assert image.shape == (30, 26, 14)
    assert image.header.get_zooms() == pytest.approx((14, 15, 24))
    assert image.get_data_dtype() == np.int16
    scan, labels = make_phantom(
        shape=(14, 26, 30), spacing_mm=(24.0, 15.0, 14.0), seed=3, phase="portal"
    )
    np.testing.assert_array_equal(np.asarray(image.dataobj), scan.transpose(2, 1, 0))
    np.testing.assert_array_equal(
        np.asarray(nibabel.load(labels_path).dataobj), labels.transpose(2, 1, 0)
    )


def test_without_a_name_for_it_no_label_map_lies_beside_the_scan(tmp_path, quick_phantom):
    assert synthesize("--output", tmp_path / "case_0000.nii.gz") == 0
    assert [p.name for p in tmp_path.iterdir()] == ["case_0000.nii.gz"]


def test_there_are_48_orientations():
    assert len(set(ORIENTATIONS)) == 48


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_any_orientation_holds_the_same_body(tmp_path, orientation, quick_phantom):
    path = tmp_path / "case.nii.gz"
    assert synthesize("--output", path, "--orientation", orientation, "--seed", 3) == 0
    assert "".join(nibabel.aff2axcodes(nibabel.load(path).affine)) == orientation
    scan, _ = quick_phantom(shape=(14, 26, 30), spacing_mm=None, seed=3, phase=None)
    read, _ = read_scan(path)
    np.testing.assert_array_equal(read.array, scan)
    assert read.geometry.spacing_mm == pytest.approx((24.0, 15.0, 14.0))
    # Centered: 13 steps of 24 mm, 25 of 15 mm and 29 of 14 mm, half to each side.
    assert read.geometry.origin_mm == pytest.approx((-156.0, -187.5, -203.0))


@pytest.mark.parametrize(
    "arguments",
    [
        ["--output", "x.nii.gz", "--count", "2"],
        ["--output", "x", "--labels", "y.nii.gz"],
        ["--output", "x.nii.gz", "--labels", "./x.nii.gz"],
        ["--output", "x", "--orientation", "LRS"],
    ],
)
def test_wrong_use_is_told_and_writes_nothing(tmp_path, monkeypatch, capsys, arguments):
    monkeypatch.chdir(tmp_path)
    assert main(["synthesize", "--size", "8", *arguments]) == 2
    assert "error:" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", ["8x8", "0x8x8", "ax8x8"])
def test_a_malformed_size_is_refused_by_the_parser(size):
    with pytest.raises(SystemExit) as stopped:
        main(["synthesize", "--output", "x", "--size", size])
    assert stopped.value.code == 2
