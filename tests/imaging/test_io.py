import gc
import gzip
import shutil
import struct

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from full_disk import room_for

from app.errors import OutputError, UnreadableScanError, UnsupportedScanError
from app.imaging import io
from app.imaging.geometry import Geometry
from app.imaging.io import atomic_path, peek, read_scan, write_label_map, write_volume
from app.imaging.volume import Volume

SHAPE = (4, 6, 5)
SPACING_MM = (3.0, 2.0, 1.5)
FORMATS = ("nii.gz", "nii", "mha", "nrrd")


def hu(dtype=np.int16):
    return np.random.default_rng(3).integers(-1000, 900, SHAPE).astype(dtype)


def write(path, array, spacing_mm=SPACING_MM, **kwargs):
    image = sitk.GetImageFromArray(array, **kwargs)
    if array.ndim == 3:
        image.SetSpacing(spacing_mm[::-1])
        image.SetOrigin((10.0, 20.0, 30.0))
    sitk.WriteImage(image, path)
    return path


@pytest.mark.parametrize("suffix", FORMATS)
def test_scan_is_read_in_zyx_order(tmp_path, suffix):
    scan, source = read_scan(write(tmp_path / f"scan.{suffix}", hu()))
    assert np.array_equal(scan.array, hu())
    assert scan.array.dtype == np.int16
    assert scan.geometry.spacing_mm == pytest.approx(SPACING_MM)
    assert scan.geometry.origin_mm == (30.0, 20.0, 10.0)
    assert source.header.geometry == scan.geometry


def test_header_alone_gives_the_grid(tmp_path):
    header = peek(write(tmp_path / "scan.nii.gz", hu(np.float32)))
    assert header.geometry.shape == SHAPE
    assert header.geometry.spacing_mm == pytest.approx(SPACING_MM)


def test_voxels_outlive_the_image_they_came_from(tmp_path):
    array = read_scan(write(tmp_path / "scan.nii", hu()))[0].array[1:]
    gc.collect()
    assert np.array_equal(array, hu()[1:])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32, np.float64])
def test_other_pixel_types_become_int16(tmp_path, dtype):
    array = np.abs(hu()).astype(dtype)
    scan, _ = read_scan(write(tmp_path / "scan.nii.gz", array))
    assert scan.array.dtype == np.int16
    assert np.array_equal(scan.array, array.astype(np.int16))


def test_values_beyond_int16_are_clipped_and_never_wrap(tmp_path):
    array = np.full(SHAPE, 50.0, np.float32)
    array[0, 0, :4] = (1e9, -1e9, np.nan, 10.6)
    scan, _ = read_scan(write(tmp_path / "scan.mha", array))
    assert scan.array[0, 0, :4].tolist() == [32767, -32768, -1024, 11]


def test_scaled_nifti_is_read_in_hu(tmp_path):
    image = nib.Nifti1Image(hu().T, np.diag([-1.5, -2.0, 3.0, 1.0]))
    image.header.set_slope_inter(1.0, -1024.0)
    nib.save(image, tmp_path / "scan.nii.gz")
    scan, _ = read_scan(tmp_path / "scan.nii.gz")
    stored = nib.load(tmp_path / "scan.nii.gz").get_fdata().T
    assert np.array_equal(scan.array, stored)


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_truncated_file_is_refused(tmp_path, suffix, share):
    path = write(tmp_path / f"scan.{suffix}", hu())
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(UnreadableScanError, match=f"scan.{suffix}"):
        read_scan(path)


def test_nifti_short_of_one_byte_is_refused(tmp_path):
    path = write(tmp_path / "scan.nii", hu())
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UnreadableScanError, match="cut short"):
        read_scan(path)


def test_damaged_compressed_nifti_is_refused(tmp_path):
    path = write(tmp_path / "scan.nii.gz", hu())
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(UnreadableScanError):
        read_scan(path)


def test_big_endian_nifti_is_read(tmp_path):
    header = nib.Nifti1Header(endianness=">")
    image = nib.Nifti1Image(hu().T, np.diag([-1.5, -2.0, 3.0, 1.0]), header)
    nib.save(image, tmp_path / "scan.nii.gz")
    with gzip.open(tmp_path / "scan.nii.gz") as stream:
        assert struct.unpack(">i", stream.read(4)) == (348,)
    assert np.array_equal(read_scan(tmp_path / "scan.nii.gz")[0].array, hu())


@pytest.mark.parametrize("content", [b"", b"no image at all", bytes(5000)])
@pytest.mark.parametrize("suffix", FORMATS)
def test_file_that_is_no_image_is_refused(tmp_path, suffix, content):
    path = tmp_path / f"scan.{suffix}"
    path.write_bytes(content)
    with pytest.raises(UnreadableScanError, match=f"scan.{suffix}"):
        read_scan(path)


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(UnreadableScanError, match="no such file"):
        peek(tmp_path / "scan.nii.gz")


def test_unknown_file_type_is_refused(tmp_path):
    (tmp_path / "scan.txt").write_text("x")
    with pytest.raises(UnsupportedScanError, match=r"\.nii\.gz"):
        peek(tmp_path / "scan.txt")


def test_series_of_volumes_is_refused(tmp_path):
    image = nib.Nifti1Image(np.zeros((3, 4, 5, 2), np.int16), np.eye(4))
    nib.save(image, tmp_path / "scan.nii.gz")
    with pytest.raises(UnsupportedScanError, match="4 dimensions"):
        peek(tmp_path / "scan.nii.gz")


def test_single_slice_image_is_refused(tmp_path):
    with pytest.raises(UnsupportedScanError, match="2 dimensions"):
        peek(write(tmp_path / "scan.mha", np.zeros((5, 6), np.int16)))


def test_color_image_is_refused(tmp_path):
    array = np.zeros((*SHAPE, 3), np.uint8)
    with pytest.raises(UnsupportedScanError, match="3 values per voxel"):
        peek(write(tmp_path / "scan.nii.gz", array, isVector=True))


def oblique_affine():
    """Give the affine of a grid that grows Right, Front and Down, a little tilted."""
    right = np.array([0.98, -0.15, 0.1]) / np.linalg.norm([0.98, -0.15, 0.1])
    down = np.cross(right, [0.0, 1.0, 0.0])
    down /= np.linalg.norm(down)
    front = np.cross(down, right)
    affine = np.eye(4)
    affine[:3, :3] = np.column_stack([1.5 * right, 2.0 * front, 3.0 * down])
    affine[:3, 3] = (-30, 40, 50)
    return affine


@pytest.mark.parametrize("codes", [(1, 0), (0, 2), (3, 4)])
@pytest.mark.parametrize("order", "<>")
def test_label_map_keeps_its_scans_header(tmp_path, codes, order):
    image = nib.Nifti1Image(hu().T, oblique_affine(), nib.Nifti1Header(endianness=order))
    image.set_qform(oblique_affine(), codes[0])
    image.set_sform(oblique_affine(), codes[1])
    image.header["descrip"] = b"portal venous"
    image.header.set_xyzt_units("mm")
    image.header.set_slope_inter(2.0, -10.0)
    nib.save(image, tmp_path / "scan.nii.gz")
    scan, source = read_scan(tmp_path / "scan.nii.gz")
    labels = source.blank_label_map()
    labels[scan.array > 0] = 7
    write_label_map(labels, source, tmp_path / "labels.nii.gz")
    written = nib.load(tmp_path / "labels.nii.gz")
    original = nib.load(tmp_path / "scan.nii.gz")
    assert np.array_equal(written.affine, original.affine)
    for field in ("qform_code", "sform_code", "xyzt_units", "descrip", "dim", "pixdim"):
        assert np.array_equal(written.header[field], original.header[field])
    assert written.get_data_dtype() == np.uint8
    assert np.array_equal(written.get_fdata() == 7, original.get_fdata() > 0)
    again = sitk.ReadImage(tmp_path / "labels.nii.gz")
    assert again.GetDirection() == sitk.ReadImage(tmp_path / "scan.nii.gz").GetDirection()


@pytest.mark.parametrize("scan_suffix", ["mha", "nrrd"])
def test_label_map_of_another_format_lies_on_the_same_grid(tmp_path, scan_suffix):
    scan_path = write(tmp_path / f"scan.{scan_suffix}", hu())
    scan, source = read_scan(scan_path)
    write_label_map((scan.array > 0).astype(np.uint8), source, tmp_path / "labels.nii.gz")
    written, original = sitk.ReadImage(tmp_path / "labels.nii.gz"), sitk.ReadImage(scan_path)
    assert written.GetPixelID() == sitk.sitkUInt8
    assert written.GetSpacing() == pytest.approx(original.GetSpacing())
    assert written.GetOrigin() == pytest.approx(original.GetOrigin())
    assert np.array_equal(sitk.GetArrayFromImage(written), hu() > 0)


def leaning(degrees):
    """Give directions (x, y, z), as rows, of a grid that lies crooked and whose slices lean."""
    turn = oblique_affine()[:3, :3] / (1.5, 2.0, 3.0)
    lean = np.radians(degrees)
    turn[:, 2] = np.cos(lean) * turn[:, 2] + np.sin(lean) * turn[:, 1]
    return turn


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("degrees", [0.0, 0.02, 0.4])
def test_label_map_lies_on_the_very_grid_of_a_scan_that_leans(tmp_path, degrees, mirrored):
    image = sitk.GetImageFromArray(np.repeat(hu(), 50, axis=0))
    image.SetSpacing(SPACING_MM[::-1])
    image.SetOrigin((10.0, -20.0, 300.0))
    image.SetDirection((leaning(degrees) * (1, 1, -1 if mirrored else 1)).ravel())
    sitk.WriteImage(image, tmp_path / "scan.mha")
    scan, source = read_scan(tmp_path / "scan.mha")
    write_label_map((scan.array > 0).astype(np.uint8), source, tmp_path / "labels.nii.gz")
    labels, written = read_scan(tmp_path / "labels.nii.gz", as_labels=True)
    assert np.array_equal(labels.array, scan.array > 0)
    # The last slice lies 4 mm off where the first would lead to without the lean of 0.4 degrees.
    assert np.allclose(labels.geometry.corners_mm(), scan.geometry.corners_mm(), atol=0.001)
    assert written.header.geometry.shape == source.header.geometry.shape
    # Programs that know right angles only follow the qform, half of the lean away.
    others = sitk.ReadImage(tmp_path / "labels.nii.gz")
    assert np.allclose(others.GetDirection(), image.GetDirection(), atol=np.radians(degrees) + 1e-6)
    assert np.allclose(others.GetOrigin(), image.GetOrigin())
    assert nib.load(tmp_path / "labels.nii.gz").header.get_zooms() == pytest.approx((1.5, 2.0, 3.0))


def test_same_label_map_gives_the_same_bytes(tmp_path):
    _, source = read_scan(write(tmp_path / "scan.nii", hu()))
    for name in ("one", "two"):
        write_label_map(source.blank_label_map(), source, tmp_path / f"{name}.nii.gz")
    assert (tmp_path / "one.nii.gz").read_bytes() == (tmp_path / "two.nii.gz").read_bytes()


def test_trailing_axis_of_length_one_is_no_fourth_dimension(tmp_path):
    nib.save(nib.Nifti1Image(hu().T[..., None], oblique_affine()), tmp_path / "scan.nii.gz")
    scan, source = read_scan(tmp_path / "scan.nii.gz")
    write_label_map(source.blank_label_map(), source, tmp_path / "labels.nii.gz")
    assert scan.array.shape == (4, 6, 5)
    assert nib.load(tmp_path / "labels.nii.gz").shape == (5, 6, 4)


def test_blank_label_map_lies_in_memory_as_the_scan_lay_on_disk(tmp_path):
    nib.save(nib.Nifti1Image(hu().T, np.diag([1.5, 2.0, 3.0, 1.0])), tmp_path / "ras.nii")
    _, source = read_scan(tmp_path / "ras.nii")
    labels = source.blank_label_map()
    assert not labels.flags.c_contiguous
    assert labels[:, ::-1, ::-1].flags.c_contiguous


def test_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "labels.nii.gz"
    path.write_bytes(b"old")

    def write_half():
        with atomic_path(path) as partial:
            partial.write_bytes(b"half")
            raise OSError("disk full")

    with pytest.raises(OutputError, match="labels.*disk full"):
        write_half()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("missing", [3, 200])
@pytest.mark.parametrize("suffix", [*FORMATS, "seg.nrrd"])
def test_full_disk_is_an_output_error_in_every_format(tmp_path, suffix, missing):
    labels = Volume((hu() > 0).astype(np.uint8), Geometry(shape=SHAPE, spacing_mm=SPACING_MM))
    path = tmp_path / f"labels.{suffix}"
    write_volume(labels, path)
    before = path.read_bytes()
    with room_for(len(before) - missing), pytest.raises(OutputError, match="labels"):
        write_volume(labels, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_file_system_that_cannot_flush_a_folder_is_no_error(tmp_path, monkeypatch):
    flush = io._flush

    def flush_files_only(path):
        if path.is_dir():
            raise OSError("not supported")
        flush(path)

    monkeypatch.setattr(io, "_flush", flush_files_only)
    with atomic_path(tmp_path / "labels.nii.gz") as partial:
        partial.write_bytes(b"new")
    assert (tmp_path / "labels.nii.gz").read_bytes() == b"new"


def test_label_map_into_a_missing_folder_is_an_output_error(tmp_path):
    _, source = read_scan(write(tmp_path / "scan.nii", hu()))
    shutil.rmtree(tmp_path)
    with pytest.raises(OutputError, match="labels"):
        write_label_map(source.blank_label_map(), source, tmp_path / "labels.nii.gz")
