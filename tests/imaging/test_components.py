import numpy as np

from app.imaging.components import PieceRule, components_of, find_specks, main_region

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


PIECES = {2: PieceRule(main_mm3=50, piece_mm3=100)}


def test_large_second_piece_of_an_organ_stays():
    labels = label_map((2, MAIN), (2, np.s_[10:12, 0:4, 0:3]))  # 240 of 1440 mm³
    assert not find_specks(labels, SPACING_MM, PIECES).any()


def test_small_second_piece_is_a_speck():
    speck = np.s_[10:11, 0:3, 0:3]  # 90 mm³
    labels = label_map((2, MAIN), (2, speck))
    assert np.array_equal(find_specks(labels, SPACING_MM, PIECES), blocks(speck))


def test_a_piece_small_beside_the_organ_is_a_speck_however_large_it_is():
    main, piece = np.s_[0:6, 0:10, 0:10], np.s_[12:15, 0:5, 0:5]  # 6000 and 750 mm³: 12.5 %
    labels = label_map((2, main), (2, piece))
    assert np.array_equal(find_specks(labels, SPACING_MM, PIECES), blocks(piece))
    labels = label_map((2, main), (2, np.s_[12:16, 0:5, 0:5]))  # 16.7 %
    assert not find_specks(labels, SPACING_MM, PIECES).any()


def test_what_touches_an_organ_by_a_corner_is_judged_alone():
    labels = label_map((2, MAIN), (2, np.s_[6:7, 8:9, 8:11]))
    assert np.array_equal(find_specks(labels, SPACING_MM, PIECES), blocks(np.s_[6:7, 8:9, 8:11]))


def test_organ_smaller_than_its_rule_is_absent():
    labels = label_map((2, np.s_[0:1, 0:2, 0:2]))  # 40 mm³
    assert find_specks(labels, SPACING_MM, PIECES).sum() == 4


def test_organs_are_judged_each_on_its_own():
    # A piece of organ 2 that touches organ 1 is no part of it; organ 1 has no rule.
    labels = label_map((1, MAIN), (2, np.s_[6:7, 2:3, 2:4]), (1, (19, 11, 13)))
    specks = find_specks(labels, SPACING_MM, PIECES)
    assert np.array_equal(specks, blocks(np.s_[6:7, 2:3, 2:4]))


def test_empty_label_map_has_no_specks():
    assert not find_specks(label_map(), SPACING_MM).any()
