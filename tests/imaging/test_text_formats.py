"""MetaImage and NRRD files: what is read, and what a header may not do."""

import numpy as np
import pytest
import SimpleITK as sitk
from scipy.spatial.transform import Rotation

from app.errors import UnreadableScanError, UnsupportedScanError
from app.imaging import metaimage, nrrd
from app.imaging.io import peek, read_scan

SHAPE = (4, 6, 5)
VOXEL_TYPES = [f"{kind}{width}" for kind in ("int", "uint") for width in (8, 16, 32, 64)]
VOXEL_TYPES += ["float32", "float64"]
SUFFIXES = ("mha", "mhd", "nrrd", "nhdr")


def hu(dtype=np.int16):
    most = 120 if dtype == "int8" else 250
    return np.abs(np.random.default_rng(3).integers(-1000, 900, SHAPE)).clip(0, most).astype(dtype)


def save(path, array=None, *, packed=False, direction=None):
    image = sitk.GetImageFromArray(hu() if array is None else array)
    image.SetSpacing((1.5, 2.0, 3.0))
    image.SetOrigin((10.0, 20.0, 30.0))
    if direction is not None:
        image.SetDirection(direction.ravel())
    sitk.WriteImage(image, path, useCompression=packed)
    return path


def edit(path, old, new):
    """Replace text in a header."""
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new, 1))
    return path


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("dtype", VOXEL_TYPES)
def test_every_form_and_voxel_type_is_read(tmp_path, suffix, packed, dtype):
    path = save(tmp_path / f"scan.{suffix}", hu(dtype), packed=packed)
    scan, source = read_scan(path)
    assert np.array_equal(scan.array, hu(dtype))
    assert scan.geometry.spacing_mm == (3, 2, 1.5)
    assert scan.geometry.origin_mm == (30, 20, 10)
    layout = (metaimage if suffix in ("mha", "mhd") else nrrd).read_layout(path)
    assert layout.dtype.itemsize == np.dtype(dtype).itemsize
    assert len(source.notes) == (dtype == "int8")  # which has no room for bone


@pytest.mark.parametrize("suffix", ["mha", "nrrd"])
@pytest.mark.parametrize("seed", range(8))
def test_oblique_grid_lies_where_the_image_library_puts_it(tmp_path, suffix, seed):
    direction = Rotation.random(random_state=seed).as_matrix()
    path = save(tmp_path / f"scan.{suffix}", direction=direction)
    geometry = peek(path).geometry
    theirs = np.reshape(sitk.ReadImage(path).GetDirection(), (3, 3))
    assert np.asarray(geometry.direction)[::-1, ::-1] == pytest.approx(theirs, abs=1e-6)
    assert geometry.spacing_mm == pytest.approx((3, 2, 1.5))


def test_big_endian_metaimage_is_read(tmp_path):
    path = save(tmp_path / "scan.mhd")
    edit(path, b"BinaryDataByteOrderMSB = False", b"BinaryDataByteOrderMSB = True")
    (tmp_path / "scan.raw").write_bytes(hu().astype(">i2").tobytes())
    assert np.array_equal(read_scan(path)[0].array, hu())


def test_big_endian_nrrd_is_read(tmp_path):
    path = save(tmp_path / "scan.nhdr")
    edit(path, b"endian: little", b"endian: big")
    (tmp_path / "scan.raw").write_bytes(hu().astype(">i2").tobytes())
    assert np.array_equal(read_scan(path)[0].array, hu())


@pytest.mark.parametrize(
    ("space", "signs"),
    [(b"RAS", (-1, -1, 1)), (b"left-anterior-superior", (1, -1, 1)), (b"lps", (1, 1, 1))],
)
def test_nrrd_of_any_space_is_turned_to_lps(tmp_path, space, signs):
    path = save(tmp_path / "scan.nrrd")
    edit(path, b"space: left-posterior-superior", b"space: " + space)
    scan, _ = read_scan(path)
    turned = hu()[:: signs[2], :: signs[1], :: signs[0]]
    assert np.array_equal(scan.array, turned)
    # The stored origin (10, 20, 30) in its own space; the last voxel comes first where flipped.
    x, y = (signs[0] * 10, signs[1] * 20)
    expected = (30, y if signs[1] > 0 else y - 2 * 5, x if signs[0] > 0 else x - 1.5 * 4)
    assert scan.geometry.origin_mm == pytest.approx(expected)


def test_nrrd_without_space_is_told(tmp_path):
    path = tmp_path / "scan.nrrd"
    header = b"NRRD0004\ntype: short\ndimension: 3\nsizes: 5 6 4\nspacings: 1.5 2 3\n"
    path.write_bytes(header + b"endian: little\nencoding: raw\n\n" + hu().tobytes())
    scan, source = read_scan(path)
    assert np.array_equal(scan.array, hu())
    assert scan.geometry.spacing_mm == (3, 2, 1.5)
    assert "left and right may be exchanged" in source.notes[0]


def test_metaimage_without_spacing_is_told(tmp_path):
    path = edit(save(tmp_path / "scan.mha"), b"ElementSpacing = 1.5 2 3\n", b"")
    assert read_scan(path)[1].notes == ("the header gives no voxel spacing; 1 mm was assumed",)


def test_metaimage_without_direction_is_told(tmp_path):
    path = edit(save(tmp_path / "scan.mha"), b"TransformMatrix = 1 0 0 0 1 0 0 0 1\n", b"")
    scan, source = read_scan(path)
    assert np.array_equal(scan.array, hu())
    (note,) = source.notes
    assert "left, back, up, so left and right may be exchanged" in note


@pytest.mark.parametrize("name", ["/etc/passwd", "../secret.raw", "below/secret.raw", "link.raw"])
@pytest.mark.parametrize("suffix", ["mhd", "nhdr"])
def test_header_cannot_reach_outside_its_folder(tmp_path, suffix, name):
    folder = tmp_path / "scans"
    (folder / "below").mkdir(parents=True)
    for place in (tmp_path, folder / "below"):
        (place / "secret.raw").write_bytes(bytes(10**4))
    (folder / "link.raw").symlink_to(tmp_path / "secret.raw")
    path = edit(save(folder / f"scan.{suffix}"), b"scan.raw", name.encode())
    with pytest.raises(UnsupportedScanError, match="same folder"):
        read_scan(path)


@pytest.mark.parametrize("suffix", ["mhd", "nhdr"])
def test_voxels_named_by_a_header_must_be_a_file(tmp_path, suffix):
    import os

    path = save(tmp_path / f"scan.{suffix}")
    (tmp_path / "scan.raw").unlink()
    with pytest.raises(UnreadableScanError, match="is missing"):
        read_scan(path)
    os.mkfifo(tmp_path / "scan.raw")  # reading it would wait for ever
    with pytest.raises(UnreadableScanError, match="is missing"):
        read_scan(path)


@pytest.mark.parametrize("value", [b"LIST", b"slice%03d.raw 1 4 1"])
@pytest.mark.parametrize("suffix", ["mhd", "nhdr"])
def test_voxels_in_several_files_are_refused(tmp_path, suffix, value):
    path = edit(save(tmp_path / f"scan.{suffix}"), b"scan.raw", value)
    with pytest.raises(UnsupportedScanError, match="several files"):
        peek(path)


@pytest.mark.parametrize(
    ("suffix", "old", "new", "finding"),
    [
        ("mha", b"DimSize = 5 6 4", b"DimSize = 5 6 -4", "no voxels"),
        ("mha", b"DimSize = 5 6 4", b"DimSize = 5 6", "3 values expected"),
        ("mha", b"DimSize = 5 6 4", b"DimSize = 5 6 4000000", "12 km|1.2e"),
        ("mha", b"DimSize = 5 6 4", b"DimSize = 5 6 3000", "cut short"),
        ("mha", b"NDims = 3", b"NDims = 1e9", "an integer expected"),
        ("mha", b"MET_SHORT", b"MET_STRING", "voxel type"),
        ("mha", b"ElementSpacing = 1.5", b"ElementSpacing = nan", "a number expected"),
        ("mha", b"ElementSpacing = 1.5", b"ElementSpacing = 0", "positive numbers"),
        ("mha", b"ElementSpacing = 1.5", b"ElementSpacing = -1.5", "positive numbers"),
        ("mha", b"TransformMatrix = 1 0 0", b"TransformMatrix = 2 0 0", "length 1"),
        ("mha", b"TransformMatrix = 1 0 0", b"TransformMatrix = 1e300 0 0", "length 1"),
        ("mha", b"BinaryData = True", b"BinaryData = False", "as text"),
        ("mha", b"NDims = 3", b"NDims = 3\nNDims = 2", "given twice"),
        ("mha", b"TransformMatrix = 1 0 0", b"TransformMatrix = 0.8 0.6 0", "right angles"),
        ("nrrd", b"sizes: 5 6 4", b"sizes: 5 6 0", "no voxels"),
        ("nrrd", b"sizes: 5 6 4", b"sizes: 5 6 3000", "cut short"),
        ("nrrd", b"type: short", b"type: block", "voxel type"),
        ("nrrd", b"encoding: raw", b"encoding: bzip2", "save it as gzip"),
        ("nrrd", b"encoding: raw", b"encoding: ascii", "save it as gzip"),
        ("nrrd", b"space: left-posterior-superior", b"space: scanner-xyz", "space"),
        ("nrrd", b"encoding: raw", b"encoding: raw\nline skip: 3", "line skip"),
        ("nrrd", b"encoding: raw", b"encoding: raw\nbyte skip: -7", "byte skip"),
    ],
)
def test_header_that_makes_no_sense_is_refused(tmp_path, suffix, old, new, finding):
    path = edit(save(tmp_path / f"scan.{suffix}"), old, new)
    with pytest.raises((UnreadableScanError, UnsupportedScanError), match=finding) as refused:
        read_scan(path)
    assert str(path) in str(refused.value)


@pytest.mark.parametrize("suffix", ["mha", "nrrd"])
def test_header_without_end_is_refused(tmp_path, suffix):
    path = tmp_path / f"scan.{suffix}"
    start = b"NRRD0004\n" if suffix == "nrrd" else b"ObjectType = Image\n"
    path.write_bytes(start + b"# Comment = x\n" * 10**5)
    with pytest.raises(UnreadableScanError):
        peek(path)


def test_byte_skip_counts_from_the_end(tmp_path):
    path = edit(save(tmp_path / "scan.nhdr"), b"encoding: raw", b"encoding: raw\nbyte skip: -1")
    (tmp_path / "scan.raw").write_bytes(b"a header of another program" + hu().tobytes())
    assert np.array_equal(read_scan(path)[0].array, hu())


def test_series_of_volumes_and_colors_are_refused(tmp_path):
    volumes = sitk.JoinSeries([sitk.GetImageFromArray(hu())] * 2)
    for suffix in ("mha", "nrrd"):
        sitk.WriteImage(volumes, tmp_path / f"volumes.{suffix}")
        with pytest.raises(UnsupportedScanError, match="4 dimensions"):
            peek(tmp_path / f"volumes.{suffix}")
    colors = sitk.GetImageFromArray(np.zeros((*SHAPE, 3), np.uint8), isVector=True)
    sitk.WriteImage(colors, tmp_path / "colors.mha")
    with pytest.raises(UnsupportedScanError, match="3 values per voxel"):
        peek(tmp_path / "colors.mha")
