import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from app.imaging.geometry import Geometry
from app.imaging.organ_statistics import measure_statistics
from app.imaging.organ_volumes import organ_volumes_ml
from app.labels import ORGANS

GEOMETRY = Geometry(shape=(4, 5, 6), spacing_mm=(5.0, 2.0, 3.0))
LIVER, SPLEEN, LEFT_KIDNEY = 1, 3, 13


def measured(scan, labels, **options):
    return {found.value: found for found in measure_statistics(scan, labels, GEOMETRY, **options)}


def test_volume_hu_extent_and_edges_are_those_of_the_organs_own_voxels():
    scan = np.full((4, 5, 6), -1000, np.int16)
    labels = np.zeros((4, 5, 6), np.uint8)
    labels[1:3, 1:4, 1:6] = LIVER  # 30 voxels of 5 x 2 x 3 mm are 0.9 ml
    scan[1, 1:4, 1:6], scan[2, 1:4, 1:6] = 50, 70
    labels[3, 0, 0] = LEFT_KIDNEY
    scan[3, 0, 0] = 31
    found = measured(scan, labels)
    liver, kidney = found[LIVER], found[LEFT_KIDNEY]
    assert liver.num_voxels == 30
    assert liver.volume_ml == pytest.approx(0.9)
    assert liver.mean_hu == pytest.approx(60)
    assert liver.sd_hu == pytest.approx(10)  # half of the voxels at 50, half at 70
    assert liver.extent_mm == (10.0, 6.0, 15.0)
    assert liver.edges == ("left",)
    assert kidney.edges == ("superior", "anterior", "right")
    assert (kidney.mean_hu, kidney.sd_hu) == (31, 0)


def test_an_absent_organ_has_a_volume_of_zero_and_no_hu():
    found = measured(np.zeros((4, 5, 6), np.int16), np.zeros((4, 5, 6), np.uint8))
    assert list(found) == [organ.value for organ in ORGANS]
    spleen = found[SPLEEN]
    assert (spleen.volume_ml, spleen.num_voxels, spleen.edges) == (0.0, 0, ())
    assert spleen.mean_hu is spleen.sd_hu is spleen.extent_mm is None


def test_only_the_organs_asked_for_are_measured():
    labels = np.full((4, 5, 6), SPLEEN, np.uint8)
    found = measured(np.zeros((4, 5, 6), np.int16), labels, organs={LIVER, SPLEEN})
    assert list(found) == [LIVER, SPLEEN]
    assert found[SPLEEN].edges == (
        "inferior", "superior", "anterior", "posterior", "right", "left"
    )  # fmt: skip


def test_values_that_stand_for_no_organ_are_passed_over():
    labels = np.zeros((4, 5, 6), np.uint8)
    labels[0], labels[1, 1, 1] = 200, LIVER
    found = measured(np.zeros((4, 5, 6), np.int16), labels)
    assert found[LIVER].num_voxels == 1
    assert sum(organ.num_voxels for organ in found.values()) == 1


@given(
    labels=arrays(np.uint8, (4, 5, 6), elements=st.integers(0, 13)),
    scan=arrays(np.int16, (4, 5, 6), elements=st.integers(-1024, 3071)),
    turned=st.sampled_from([np.s_[::1], np.s_[:, ::-1], np.s_[::-1, :, ::-1]]),
)
def test_slices_add_up_to_what_the_whole_volume_gives(labels, scan, turned):
    labels, scan = labels[turned], scan[turned]
    volumes_ml = organ_volumes_ml(labels, GEOMETRY)
    for organ in measure_statistics(scan, labels, GEOMETRY):
        mask = labels == organ.value
        assert organ.volume_ml == pytest.approx(volumes_ml[organ.organ])
        if not mask.any():
            continue
        assert organ.mean_hu == pytest.approx(scan[mask].mean())
        assert organ.sd_hu == pytest.approx(scan[mask].std(), abs=1e-3)
        z, y, x = np.nonzero(mask)
        assert organ.extent_mm == pytest.approx(
            ((np.ptp(z) + 1) * 5.0, (np.ptp(y) + 1) * 2.0, (np.ptp(x) + 1) * 3.0)
        )
