"""NIfTI files as scanners, converters and people write them."""

import gzip
from itertools import permutations, product

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff

from app.errors import UnreadableScanError, UnsupportedScanError
from app.imaging.io import peek, read_scan, write_label_map
from app.imaging.nifti import read_layout

SHAPE = (4, 6, 5)  # z, y, x
AFFINE_LPS = np.diag([-1.5, -2.0, 3.0, 1.0])
KINDS = [nib.Nifti1Image, nib.Nifti2Image]
VOXEL_TYPES = [f"{kind}{width}" for kind in ("int", "uint") for width in (8, 16, 32, 64)]
VOXEL_TYPES += ["float32", "float64"]
AXCODES = [
    tuple(pair[side] for pair, side in zip(pairs, sides, strict=True))
    for pairs in permutations(["LR", "PA", "SI"])
    for sides in product((0, 1), repeat=3)
]


def hu(dtype=np.int16):
    return np.random.default_rng(3).integers(-1000, 900, SHAPE).astype(dtype)


def save(path, array=None, affine=AFFINE_LPS, *, kind=nib.Nifti1Image, order="<", codes=(1, 1)):
    """Write an array given as (z, y, x); codes are those of qform and sform."""
    array = hu() if array is None else array
    header = kind.header_class(endianness=order)
    header.set_data_dtype(array.dtype)
    image = kind(array.T, affine, header)
    image.set_qform(affine, codes[0])
    image.set_sform(affine, codes[1])
    nib.save(image, path)
    return path


def edit(path, **fields):
    """Set fields of a header that nibabel would not write."""
    image = nib.load(path)
    voxels = np.array(image.dataobj.get_unscaled())
    for name, value in ({"vox_offset": 352} | fields).items():
        image.header[name] = value
    with path.open("wb") as file:
        file.write(image.header.binaryblock + bytes(4) + voxels.tobytes(order="F"))
    return path


@pytest.mark.parametrize("suffix", ["nii", "nii.gz"])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", VOXEL_TYPES)
def test_every_version_order_and_voxel_type_is_read(tmp_path, suffix, order, kind, dtype):
    array = np.abs(hu()).clip(0, 120 if dtype == "int8" else 200).astype(dtype)
    path = save(tmp_path / f"scan.{suffix}", array, kind=kind, order=order)
    scan, _ = read_scan(path)
    assert np.array_equal(scan.array, array)
    assert scan.geometry.spacing_mm == pytest.approx((3, 2, 1.5))
    assert read_layout(path).dtype.itemsize == np.dtype(dtype).itemsize


@pytest.mark.parametrize("axcodes", AXCODES, ids="".join)
@pytest.mark.parametrize("kind", KINDS)
def test_every_orientation_is_brought_to_lps(tmp_path, axcodes, kind):
    turn = axcodes2ornt(axcodes, (("R", "L"), ("A", "P"), ("I", "S")))
    stored = apply_orientation(hu().T, turn)
    affine = AFFINE_LPS @ inv_ornt_aff(turn, hu().T.shape)
    scan, source = read_scan(save(tmp_path / "scan.nii", stored.T, affine, kind=kind))
    assert np.array_equal(scan.array, hu())
    assert scan.geometry.spacing_mm == pytest.approx((3, 2, 1.5))
    assert scan.geometry.origin_mm == pytest.approx((0, 0, 0))
    assert source.notes == ()


@pytest.mark.parametrize("seed", range(7))
@pytest.mark.parametrize("codes", [(1, 0), (0, 1), (1, 1)])
def test_oblique_grid_lies_where_the_image_library_puts_it(tmp_path, seed, codes):
    from scipy.spatial.transform import Rotation

    rng = np.random.default_rng(seed)
    affine = np.eye(4)
    axes = Rotation.random(random_state=seed).as_matrix() * rng.choice([-1, 1], 3)
    affine[:3] = np.column_stack([axes * rng.uniform(0.5, 5, 3), rng.uniform(-300, 300, 3)])
    path = save(tmp_path / "scan.nii.gz", affine=affine, codes=codes)
    ours, theirs = peek(path).geometry, sitk.ReadImage(path)
    direction_xyz = np.asarray(ours.direction)[::-1, ::-1]
    assert ours.spacing_mm[::-1] == pytest.approx(theirs.GetSpacing(), rel=1e-5)
    assert ours.origin_mm[::-1] == pytest.approx(theirs.GetOrigin(), abs=1e-3)
    assert direction_xyz.ravel() == pytest.approx(np.array(theirs.GetDirection()), abs=1e-5)


def test_sform_wins_over_a_qform_that_disagrees_and_it_is_said(tmp_path):
    image = nib.Nifti1Image(hu().T, AFFINE_LPS)
    image.set_sform(AFFINE_LPS, 1)
    image.set_qform(np.diag([1.5, -2.0, 3.0, 1.0]), 1)
    nib.save(image, tmp_path / "scan.nii")
    scan, source = read_scan(tmp_path / "scan.nii")
    assert np.array_equal(scan.array, hu())
    assert source.notes == ("sform and qform disagree; the sform was followed",)


def test_sform_wins_over_pixdim_and_it_is_said(tmp_path):
    path = edit(save(tmp_path / "scan.nii", codes=(0, 1)), pixdim=[1, 2, 2, 2, 0, 0, 0, 0])
    scan, source = read_scan(path)
    assert scan.geometry.spacing_mm == pytest.approx((3, 2, 1.5))
    assert "pixdim disagree" in source.notes[0]


def test_without_any_orientation_axes_grow_left_front_and_up_with_a_warning(tmp_path):
    image = nib.Nifti1Image(hu().T, None)
    image.header["pixdim"][1:4] = (1.5, 2, 3)
    nib.save(image, tmp_path / "scan.nii")
    scan, source = read_scan(tmp_path / "scan.nii")
    assert np.array_equal(scan.array, hu()[:, ::-1])
    assert "left and right may be exchanged" in source.notes[0]


def sheared():
    affine = AFFINE_LPS.copy()
    affine[1, 2] = np.tan(np.radians(10)) * 3
    return affine


def test_sheared_sform_gives_way_to_the_qform(tmp_path):
    image = nib.Nifti1Image(hu().T, AFFINE_LPS)
    image.set_qform(AFFINE_LPS, 1)
    image.set_sform(sheared(), 2)
    nib.save(image, tmp_path / "scan.nii")
    scan, source = read_scan(tmp_path / "scan.nii")
    assert np.array_equal(scan.array, hu())
    assert "the qform was followed" in source.notes[0]


def test_sheared_grid_is_refused_with_its_angle(tmp_path):
    image = nib.Nifti1Image(hu().T, sheared())
    image.set_sform(sheared(), 1)
    image.set_qform(AFFINE_LPS, 0)
    nib.save(image, tmp_path / "scan.nii")
    with pytest.raises(UnsupportedScanError, match=r"10\.0 degrees.*resample"):
        peek(tmp_path / "scan.nii")


@pytest.mark.parametrize(("unit", "factor"), [("meter", 0.001), ("micron", 1000), ("mm", 1)])
def test_units_of_space_are_obeyed(tmp_path, unit, factor):
    affine = AFFINE_LPS * factor
    affine[3, 3] = 1
    image = nib.Nifti1Image(hu().T, affine)
    image.header.set_xyzt_units(unit)
    nib.save(image, tmp_path / "scan.nii")
    assert peek(tmp_path / "scan.nii").geometry.spacing_mm == pytest.approx((3, 2, 1.5))


def test_slope_and_intercept_give_hu(tmp_path):
    path = save(tmp_path / "scan.nii", (hu() + 1024).astype(np.uint16))
    scan, _ = read_scan(edit(path, scl_slope=1.0, scl_inter=-1024.0))
    assert np.array_equal(scan.array, hu())
    scan, _ = read_scan(edit(path, scl_slope=0.5, scl_inter=-100.0))
    assert np.array_equal(scan.array, np.rint((hu() + 1024) * 0.5 - 100))


@pytest.mark.parametrize("slope", [0.0, np.nan])
def test_slope_of_zero_means_no_scale(tmp_path, slope):
    path = edit(save(tmp_path / "scan.nii"), scl_slope=slope, scl_inter=77.0)
    assert np.array_equal(read_scan(path)[0].array, hu())


def test_endless_slope_is_refused(tmp_path):
    with pytest.raises(UnsupportedScanError, match="scaled by inf"):
        peek(edit(save(tmp_path / "scan.nii"), scl_slope=np.inf))


def body_stored_without_its_offset():
    """Air, a body of soft tissue, and bone, stored as HU + 1024."""
    array = np.zeros((8, 20, 30), np.uint16)
    array[:, 4:16, 5:25] = 1024 + np.random.default_rng(0).integers(-100, 150, (8, 12, 20))
    array[:, 9:11, 14:16] = 1800
    return array


def test_hu_plus_1024_is_told_by_the_numbers_and_taken_off(tmp_path):
    stored = body_stored_without_its_offset()
    scan, source = read_scan(save(tmp_path / "scan.nii.gz", stored))
    assert np.array_equal(scan.array, stored.astype(np.int16) - 1024)
    assert source.notes == ("stored as HU + 1024, which was taken off",)


@pytest.mark.parametrize("odd", [-7, -2000])
def test_hu_plus_1024_is_told_though_a_voxel_is_negative(tmp_path, odd):
    stored = body_stored_without_its_offset().astype(np.int16)
    stored[0, 0, 0] = odd
    scan, source = read_scan(save(tmp_path / "scan.nii.gz", stored))
    assert np.array_equal(scan.array, stored - 1024)
    assert source.notes == ("stored as HU + 1024, which was taken off",)


def test_magnetic_resonance_is_not_taken_for_hu_plus_1024(tmp_path):
    stored = np.abs(np.random.default_rng(0).normal(250, 120, (8, 20, 30))).astype(np.uint16)
    scan, source = read_scan(save(tmp_path / "scan.nii.gz", stored))
    assert np.array_equal(scan.array, stored)
    assert source.notes == ()


def test_what_is_no_number_becomes_air_and_is_counted(tmp_path):
    array = np.full(SHAPE, 50, np.float32)
    array[0, 0, :3] = (np.nan, np.inf, -np.inf)
    array[1, 0, 0] = 1e9
    scan, source = read_scan(save(tmp_path / "scan.nii", array))
    assert scan.array[0, 0].tolist() == [-1024, -1024, -1024, 50, 50]
    assert scan.array[1, 0, 0] == 32767
    assert source.notes == (
        "3 voxels hold no number (NaN or infinite)",
        "1 voxels lie beyond the range of HU and were clipped",
    )


def test_water_phantom_is_told(tmp_path):
    array = np.full((10, 30, 40), -1000, np.int16)
    array[:, 5:25, 5:35] = np.random.default_rng(0).normal(0, 15, (10, 20, 30))
    _, source = read_scan(save(tmp_path / "scan.nii", array))
    assert source.notes == ("nothing above 150 HU, so no bone is in it; a phantom, or not in HU",)


def test_constant_scan_is_told(tmp_path):
    _, source = read_scan(save(tmp_path / "scan.nii", np.full(SHAPE, -1024, np.int16)))
    assert source.notes == ("all voxels hold the same number, -1024",)


@pytest.mark.parametrize("kind", KINDS)
def test_label_map_keeps_the_header_of_either_version(tmp_path, kind):
    path = save(tmp_path / "scan.nii.gz", hu().astype(np.float32), kind=kind, order=">")
    scan, source = read_scan(path)
    write_label_map((scan.array > 0).astype(np.uint8), source, tmp_path / "labels.nii.gz")
    written, original = nib.load(tmp_path / "labels.nii.gz"), nib.load(path)
    assert type(written) is type(original)
    assert np.array_equal(written.affine, original.affine)
    assert np.array_equal(written.get_fdata(), original.get_fdata() > 0)


def test_one_volume_in_four_dimensions_is_taken(tmp_path):
    nib.save(nib.Nifti1Image(hu().T[..., None], AFFINE_LPS), tmp_path / "scan.nii")
    assert np.array_equal(read_scan(tmp_path / "scan.nii")[0].array, hu())


def test_several_volumes_are_refused(tmp_path):
    nib.save(nib.Nifti1Image(np.stack([hu().T] * 2, -1), AFFINE_LPS), tmp_path / "scan.nii")
    with pytest.raises(UnsupportedScanError, match=r"\(5, 6, 4, 2\).*one volume per file"):
        peek(tmp_path / "scan.nii")


def test_color_is_refused(tmp_path):
    colors = np.zeros(SHAPE[::-1], [("R", "u1"), ("G", "u1"), ("B", "u1")])
    nib.save(nib.Nifti1Image(colors, AFFINE_LPS), tmp_path / "scan.nii")
    with pytest.raises(UnsupportedScanError, match="3 values per voxel"):
        peek(tmp_path / "scan.nii")


def test_complex_voxels_are_refused(tmp_path):
    nib.save(nib.Nifti1Image(hu().T.astype(np.complex64), AFFINE_LPS), tmp_path / "scan.nii")
    with pytest.raises(UnsupportedScanError, match="complex"):
        peek(tmp_path / "scan.nii")


@pytest.mark.parametrize(
    ("shape", "finding"),
    [((5, 6), r"2 dimensions found, size \(5, 6\)"), ((5, 6, 4, 1, 3), "3 values per voxel found")],
)
def test_planes_and_vectors_are_refused(tmp_path, shape, finding):
    nib.save(nib.Nifti1Image(np.zeros(shape, np.int16), AFFINE_LPS), tmp_path / "scan.nii")
    with pytest.raises(UnsupportedScanError, match=finding):
        peek(tmp_path / "scan.nii")


def test_compression_is_told_by_content_and_not_by_name(tmp_path):
    plain = save(tmp_path / "a.nii")
    (tmp_path / "b.nii.gz").write_bytes(plain.read_bytes())
    (tmp_path / "c.nii").write_bytes(gzip.compress(plain.read_bytes()))
    for name in ("b.nii.gz", "c.nii"):
        assert np.array_equal(read_scan(tmp_path / name)[0].array, hu())


def test_gzip_in_several_members_is_read_as_one(tmp_path):
    content = save(tmp_path / "a.nii").read_bytes()
    parts = (content[:100], content[100:401], content[401:])
    (tmp_path / "b.nii.gz").write_bytes(b"".join(gzip.compress(part) for part in parts))
    assert np.array_equal(read_scan(tmp_path / "b.nii.gz")[0].array, hu())


def test_changed_byte_in_a_gzip_stream_fails_its_checksum(tmp_path):
    path = save(tmp_path / "scan.nii.gz", np.zeros((40, 50, 60), np.int16))
    content = bytearray(path.read_bytes())
    content[-8] ^= 1  # the checksum itself: all voxels are there
    path.write_bytes(content)
    with pytest.raises(UnreadableScanError, match="[Ii]ncorrect checksum"):
        read_scan(path)


def test_unusual_spacing_is_told(tmp_path):
    _, source = read_scan(save(tmp_path / "scan.nii", affine=np.diag([-0.05, -2, 3, 1])))
    assert source.notes == ("unusual voxel spacing, 3 x 2 x 0.05 mm (z, y, x); check the header",)


def test_grid_longer_than_any_scanner_is_refused(tmp_path):
    with pytest.raises(UnsupportedScanError, match="12 m long"):
        peek(save(tmp_path / "scan.nii", affine=np.diag([-1.5, -2000, 3, 1])))


@pytest.mark.parametrize("axis", range(3))
def test_grid_too_fine_for_any_scanner_is_refused(tmp_path, axis):
    affine = AFFINE_LPS.copy()
    affine[axis, axis] = 1e-8
    path = save(tmp_path / "scan.nii", affine=affine)
    with pytest.raises(UnsupportedScanError, match=r"1e-08.*at least 0\.01 mm.*correct") as refused:
        peek(path)
    assert str(path) in str(refused.value)


def test_fine_grid_of_a_laboratory_is_read_and_told(tmp_path):
    _, source = read_scan(save(tmp_path / "scan.nii", affine=np.diag([-0.01, -2, 3, 1])))
    assert "unusual voxel spacing" in source.notes[0]


@pytest.mark.parametrize(("num_slices", "is_read"), [(32_767, True), (32_768, False)])
def test_more_voxels_along_an_axis_than_any_scan_has_are_refused(tmp_path, num_slices, is_read):
    array = np.zeros((num_slices, 2, 1), np.uint8)
    path = save(tmp_path / "scan.nii", array, np.diag([-1, -1, 0.1, 1]), kind=nib.Nifti2Image)
    if is_read:
        assert peek(path).geometry.shape == (num_slices, 2, 1)
        return
    with pytest.raises(UnsupportedScanError, match=r"32768.* at most 32,767 .*crop the scan"):
        peek(path)


@pytest.mark.parametrize("shape", [(1, 6, 5), (2000, 4, 3), (2, 64, 64), (2, 1024, 1024)])
def test_any_number_of_slices_and_pixels_is_read(tmp_path, shape):
    array = np.random.default_rng(1).integers(-1000, 900, shape).astype(np.int16)
    assert np.array_equal(read_scan(save(tmp_path / "scan.nii.gz", array))[0].array, array)
