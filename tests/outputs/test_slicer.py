import nrrd
import numpy as np
import pytest
import SimpleITK as sitk
import slicerio

from app.imaging.label_maps import read_label_map
from app.labels import ORGANS
from app.outputs.slicer import write_seg_nrrd

LIVER, LEFT_KIDNEY = 1, 13


@pytest.fixture
def written(tmp_path):
    """Give a label map, stored right to left and feet up, and its segmentation."""
    array = np.zeros((7, 6, 5), np.uint8)
    array[1:4, 2:5, 0:2] = LIVER
    array[5, 1, 3:5] = LEFT_KIDNEY
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((1.0, 2.0, 3.0))
    image.SetOrigin((-10.0, 20.0, 30.0))
    image.SetDirection((-1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 1.0, 0.0))
    sitk.WriteImage(image, tmp_path / "x.nii.gz")
    write_seg_nrrd(read_label_map(tmp_path / "x.nii.gz"), tmp_path / "x.seg.nrrd")
    return image, tmp_path / "x.seg.nrrd"


def test_voxels_and_grid_are_those_of_the_label_map(written):
    image, path = written
    voxels, header = nrrd.read(str(path), index_order="C")
    assert header["space"] == "left-posterior-superior"
    assert list(header["kinds"]) == ["domain"] * 3
    assert voxels.dtype == np.uint8
    assert np.array_equal(voxels, sitk.GetArrayFromImage(image))
    found = slicerio.read_segmentation(str(path), skip_voxels=True)
    corner = found["ijkToLPS"] @ (4, 5, 6, 1)
    assert corner[:3] == pytest.approx(image.TransformIndexToPhysicalPoint((4, 5, 6)))


def test_segments_have_names_colors_values_and_extents(written):
    _, path = written
    found = slicerio.read_segmentation(str(path))
    assert found["containedRepresentationNames"] == ["Binary labelmap", "Closed surface"]
    assert found["masterRepresentation"] == "Binary labelmap"
    liver, kidney = found["segments"]
    assert (liver["name"], kidney["name"]) == ("Liver", "Left kidney")
    assert (liver["labelValue"], kidney["labelValue"]) == (LIVER, LEFT_KIDNEY)
    assert liver["color"] == pytest.approx(np.divide(ORGANS[0].color, 255), abs=1e-5)
    assert liver["extent"] == [0, 1, 2, 4, 1, 3]  # i, j, k, last voxel included
    assert kidney["extent"] == [3, 4, 1, 1, 5, 5]
    assert (liver["layer"], liver["status"]) == (0, "completed")


def test_segments_carry_standard_terms(written):
    _, path = written
    liver, kidney = slicerio.read_segmentation(str(path), skip_voxels=True)["segments"]
    assert liver["terminology"]["type"] == ["SCT", "10200004", "Liver"]
    assert "typeModifier" not in liver["terminology"]
    assert kidney["terminology"]["type"] == ["SCT", "64033007", "Kidney"]
    assert kidney["terminology"]["typeModifier"] == ["SCT", "7771000", "Left"]
    assert kidney["terminology"]["category"] == ["SCT", "123037004", "Anatomical Structure"]


def test_an_organ_can_be_cut_out_by_its_name(written):
    image, path = written
    segmentation = slicerio.read_segmentation(str(path))
    extracted = slicerio.extract_segments(segmentation, [("Left kidney", 1)])
    expected = sitk.GetArrayFromImage(image).T == LEFT_KIDNEY
    assert np.array_equal(extracted["voxels"], expected)
