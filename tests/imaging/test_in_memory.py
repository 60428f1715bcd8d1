import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st

from app.errors import UnsupportedScanError
from app.imaging.geometry import Geometry
from app.imaging.in_memory import adopt_array, adopt_image, as_array, as_image
from app.imaging.io import read_scan

GEOMETRY = Geometry(shape=(4, 5, 6), spacing_mm=(5.0, 2.0, 3.0))
CODES = ["LPS", "RAS", "ASR", "PIL", "IRA"]


def image_of(code):
    hu = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)
    image = sitk.GetImageFromArray(hu)
    image.SetSpacing((3.0, 2.0, 5.0))
    image.SetOrigin((-10.0, 20.0, 30.0))
    return sitk.DICOMOrient(image, code)


@pytest.mark.parametrize("code", CODES)
def test_an_image_in_memory_is_the_scan_that_its_file_would_be(tmp_path, code):
    image = image_of(code)
    sitk.WriteImage(image, tmp_path / "x.nrrd")
    expected, expected_source = read_scan(tmp_path / "x.nrrd")
    scan, source = adopt_image(image)
    assert np.array_equal(scan.array, expected.array)
    assert scan.geometry == expected.geometry
    assert source.orientation == expected_source.orientation


@given(code=st.sampled_from(CODES))
def test_labels_go_back_to_the_voxels_they_came_from(code):
    image = image_of(code)
    scan, source = adopt_image(image)
    labels = (scan.array % 14).astype(np.uint8)
    expected = sitk.GetArrayFromImage(image) % 14
    assert np.array_equal(as_array(labels, source), expected)
    label_image = as_image(labels, source, image)
    assert np.array_equal(sitk.GetArrayFromImage(label_image), expected)
    for told in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
        assert getattr(label_image, told)() == getattr(image, told)()


def test_int16_is_not_copied_and_other_types_are_rounded_and_clipped():
    hu = np.zeros((4, 5, 6), np.int16)
    assert np.shares_memory(adopt_array(hu, GEOMETRY)[0].array, hu)
    floats = np.zeros((4, 5, 6))
    floats[0, 0] = (1.6, -1e9, 1e9, np.nan, -np.inf, np.inf)
    scan, source = adopt_array(floats, GEOMETRY)
    assert scan.array.dtype == np.int16
    assert scan.array[0, 0].tolist() == [2, -32768, 32767, -1024, -1024, -1024]
    assert source.notes == (
        "3 voxels hold no number (NaN or infinite)",
        "2 voxels lie beyond the range of HU and were clipped",
    )


@pytest.mark.parametrize(
    ("array", "geometry", "message"),
    [
        (np.zeros((4, 5)), GEOMETRY, "shape"),
        (np.zeros((0, 5, 6)), GEOMETRY, "shape"),
        (np.zeros((4, 5, 6), complex), GEOMETRY, "complex128"),
        (np.zeros((4, 5, 6), bool), GEOMETRY, "bool"),
        (
            np.zeros((4, 5, 6)),
            Geometry(shape=(4, 5, 6), spacing_mm=(1.0, 0.0, 1.0)),
            "spacing",
        ),
        (
            np.zeros((4, 5, 6)),
            Geometry(shape=(4, 5, 6), spacing_mm=(1.0, 1.0, 1.0), direction=((0.0,) * 3,) * 3),
            "must be numbers, the spacing positive",
        ),
    ],
)
def test_what_is_no_scan_is_refused(array, geometry, message):
    with pytest.raises(UnsupportedScanError, match=message):
        adopt_array(array, geometry)


def test_images_of_other_dimensions_or_colors_are_refused():
    with pytest.raises(UnsupportedScanError, match="2 dimensions"):
        adopt_image(sitk.Image(4, 5, sitk.sitkInt16))
    with pytest.raises(UnsupportedScanError, match="3 values per voxel"):
        adopt_image(sitk.Image([4, 5, 6], sitk.sitkVectorUInt8, 3))


def test_what_a_file_would_be_refused_for_an_image_is_refused_for(tmp_path):
    image = image_of("LPS")
    image.SetDirection((1, 0.6, 0, 0, 0.8, 0, 0, 0, 1))
    sitk.WriteImage(image, tmp_path / "x.nrrd")
    for adopt in (lambda: read_scan(tmp_path / "x.nrrd"), lambda: adopt_image(image)):
        with pytest.raises(UnsupportedScanError, match="degrees away from right angles"):
            adopt()


@pytest.mark.parametrize("writeable", [True, False])
def test_an_offset_is_taken_off_a_copy(writeable):
    stored = np.full((20, 20, 20), 20, np.int16)
    stored[5:15, 5:15, 5:15] = 1074
    stored.flags.writeable = writeable
    geometry = Geometry(shape=stored.shape, spacing_mm=(5.0, 2.0, 3.0))
    scan, source = adopt_array(stored, geometry)
    assert (stored.max(), scan.array.max()) == (1074, 50)
    assert source.notes == ("stored as HU + 1024, which was taken off",)
