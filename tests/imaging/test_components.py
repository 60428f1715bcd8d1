import dataclasses

import numpy as np
import pytest

from app.imaging.components import PieceRule, components_of, find_specks, main_region
from app.imaging.geometry import Box

SPACING_MM = (5.0, 2.0, 1.0)  # a voxel is 10 mm³
RULES = {"least_mm3": 100.0, "companion_mm3": 50.0, "gap_mm": 15.0}


def blocks(*regions, shape=(20, 12, 14)):
    mask = np.zeros(shape, bool)
    for region in regions:
        mask[region] = True
    return mask


MAIN = np.s_[2:6, 2:8, 2:8]


def test_components_come_largest_first_with_size_and_box():
    labeled, found = components_of(blocks(np.s_[0:1, 0:1, 0:2], MAIN), SPACING_MM)
    assert [component.volume_mm3 for component in found] == [4 * 6 * 6 * 10, 20]
    assert found[0].box.start == (2, 2, 2)
    assert found[0].box.stop == (6, 8, 8)
    assert (labeled == found[0].label).sum() == 144


def test_corners_hold_together():
    _, found = components_of(blocks((0, 0, 0), (1, 1, 1)), SPACING_MM)
    assert len(found) == 1


def test_far_component_does_not_stretch_the_region():
    mask = blocks(MAIN, np.s_[12:16, 2:8, 2:6])
    assert np.array_equal(main_region(mask, SPACING_MM, **RULES), blocks(MAIN))


def test_component_close_along_z_is_kept():
    # Slices 6, 7 and 8 are empty: a gap of 15 mm.
    mask = blocks(MAIN, np.s_[9:11, 2:4, 2:6])
    assert np.array_equal(main_region(mask, SPACING_MM, **RULES), mask)


def test_component_beside_the_main_one_is_kept():
    mask = blocks(MAIN, np.s_[3:5, 9:12, 10:14])
    assert np.array_equal(main_region(mask, SPACING_MM, **RULES), mask)


def test_closeness_is_passed_on_from_component_to_component():
    mask = blocks(MAIN, np.s_[8:10, 2:4, 2:6], np.s_[12:14, 2:4, 2:6])
    assert np.array_equal(main_region(mask, SPACING_MM, **RULES), mask)


def test_small_component_is_dropped_by_mm3_not_by_voxels():
    speck = np.s_[7:8, 2:4, 2:4]  # 4 voxels: 40 mm³ here, 80 mm³ on slices twice as thick
    mask = blocks(MAIN, speck)
    assert np.array_equal(main_region(mask, SPACING_MM, **RULES), blocks(MAIN))
    thick = main_region(mask, (10.0, 2.0, 1.0), **RULES)
    assert np.array_equal(thick, mask)


def test_nothing_large_enough_gives_an_empty_region():
    assert not main_region(blocks((0, 0, 0)), SPACING_MM, **RULES).any()
    assert not main_region(blocks(), SPACING_MM, **RULES).any()


def label_map(*parts, shape=(20, 12, 14)):
    labels = np.zeros(shape, np.uint8)
    for value, region in parts:
        labels[region] = value
    return labels


PIECES = {
    2: PieceRule(main_mm3=50, piece_mm3=100, share=0.15),
    3: PieceRule(main_mm3=50, piece_mm3=100, share=0.5),
}


BEYOND = Box(start=(-5, -5, -5), stop=(30, 20, 20))
"""A scan that goes on beyond the label map on all sides."""


def specks_in(*parts, scan=BEYOND):
    specks, _ = find_specks(label_map(*parts), SPACING_MM, scan, PIECES)
    return specks


def test_large_second_piece_of_an_organ_stays():
    assert not specks_in((2, MAIN), (2, np.s_[10:12, 0:4, 0:3])).any()  # 240 of 1440 mm³


def test_small_second_piece_is_a_speck():
    speck = np.s_[10:11, 0:3, 0:3]  # 90 mm³
    assert np.array_equal(specks_in((2, MAIN), (2, speck)), blocks(speck))


def test_a_piece_small_beside_the_organ_is_a_speck_however_large_it_is():
    main, piece = np.s_[0:6, 0:10, 0:10], np.s_[12:15, 0:5, 0:5]  # 6000 and 750 mm³: 12.5 %
    assert np.array_equal(specks_in((2, main), (2, piece)), blocks(piece))
    assert not specks_in((2, main), (2, np.s_[12:16, 0:5, 0:5])).any()  # 16.7 %


def test_a_solid_organ_is_one_piece_and_the_piece_it_loses_is_told():
    main = np.s_[0:6, 0:10, 0:10]  # 6000 mm³
    for piece, is_speck in ((np.s_[9:19, 1:6, 1:6], True), (np.s_[9:19, 1:8, 1:6], False)):
        labels = label_map((3, main), (3, piece))  # 2500 and 3500 mm³
        specks, doubtful_mm3 = find_specks(labels, SPACING_MM, BEYOND, PIECES)
        assert np.array_equal(specks, blocks(piece) if is_speck else blocks())
        assert doubtful_mm3 == ({3: 2500.0} if is_speck else {})


@pytest.mark.parametrize(("value", "is_speck"), [(4, False), (3, True)])
def test_a_tail_apart_from_the_head_of_the_pancreas_is_believed(value, is_speck):
    # In voxels of 1 ml: 30 ml and 12, as where the neck is missed; 12 ml beside a spleen are bowel.
    labels = label_map((value, np.s_[0:3, 0:5, 0:2]), (value, np.s_[8:10, 0:3, 0:2]))
    specks, _ = find_specks(labels, (10.0, 10.0, 10.0), BEYOND)
    assert specks.sum() == (12 if is_speck else 0)


def test_a_small_piece_taken_back_is_not_worth_telling():
    labels = label_map((3, np.s_[0:6, 0:10, 0:10]), (3, np.s_[12:15, 1:6, 1:6]))  # 12.5 %
    specks, doubtful_mm3 = find_specks(labels, SPACING_MM, BEYOND, PIECES)
    assert specks.sum() == 75
    assert doubtful_mm3 == {}


def test_a_piece_of_a_solid_organ_at_the_edge_of_the_scan_may_hang_together_beyond_it():
    main, piece = np.s_[0:6, 0:10, 0:10], np.s_[10:20, 1:6, 1:6]  # up to the last slice
    ends_there = Box(start=(-5, -5, -5), stop=(20, 20, 20))
    assert not specks_in((3, main), (3, piece), scan=ends_there).any()
    assert specks_in((3, main), (3, piece)).any()
    assert specks_in((3, main), (3, np.s_[17:20, 1:6, 1:6]), scan=ends_there).any()  # 12.5 %


def test_what_touches_an_organ_by_a_corner_is_judged_alone():
    corner = np.s_[6:7, 8:9, 8:11]
    assert np.array_equal(specks_in((2, MAIN), (2, corner)), blocks(corner))


def test_a_piece_of_a_hollow_organ_torn_off_by_a_voxel_stays():
    main, beside = np.s_[0:6, 0:10, 0:10], np.s_[7:10, 1:6, 1:6]  # 6000 and 750 mm³: 12.5 %
    near = {2: dataclasses.replace(PIECES[2], gap_mm=10.0)}
    torn, farther, tiny = (
        label_map((2, main), (2, piece))
        for piece in (beside, np.s_[8:11, 1:6, 1:6], np.s_[7:8, 1:4, 1:4])
    )  # 2 and 3 slices from the organ's last, and 90 mm³
    for labels, gap_rules, num_specks in (
        (torn, near, 0),
        (torn, PIECES, 75),
        (farther, near, 75),
        (tiny, near, 9),
    ):
        specks, _ = find_specks(labels, SPACING_MM, BEYOND, gap_rules)
        assert specks.sum() == num_specks


def test_the_gap_is_measured_in_mm():
    main = np.s_[0:6, 0:8, 0:12]  # 5760 mm³
    along_y, along_x = np.s_[0:5, 9:12, 0:5], np.s_[0:5, 0:5, 13:14]
    for piece, step_mm in ((along_y, SPACING_MM[1]), (along_x, SPACING_MM[2])):
        for gap_mm, is_speck in ((2 * step_mm, False), (2 * step_mm - 0.1, True)):
            rules = {2: PieceRule(main_mm3=50, piece_mm3=100, share=0.15, gap_mm=gap_mm)}
            specks, _ = find_specks(label_map((2, main), (2, piece)), SPACING_MM, BEYOND, rules)
            assert specks.any() == is_speck


def test_organ_smaller_than_its_rule_is_absent():
    assert specks_in((2, np.s_[0:1, 0:2, 0:2])).sum() == 4  # 40 mm³


def test_organs_are_judged_each_on_its_own():
    # A piece of organ 2 that touches organ 1 is no part of it; organ 1 has no rule.
    specks = specks_in((1, MAIN), (2, np.s_[6:7, 2:3, 2:4]), (1, (19, 11, 13)))
    assert np.array_equal(specks, blocks(np.s_[6:7, 2:3, 2:4]))


def test_empty_label_map_has_no_specks():
    specks, doubtful_mm3 = find_specks(label_map(), SPACING_MM, BEYOND)
    assert not specks.any()
    assert doubtful_mm3 == {}
