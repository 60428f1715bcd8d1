import numpy as np

from app.data.gaps import fill_gaps

SPACING_MM = (3.0, 1.0, 2.0)


def cone():
    """A square of 21 voxels that loses two in width with every slice."""
    labels = np.zeros((9, 25, 27), np.uint8)
    for z in range(9):
        labels[z, 2 + z : 23 - z, 3 + z : 24 - z] = 1
    return labels


def test_missing_slices_get_the_shape_between_their_neighbors():
    labels = cone()
    broken = labels.copy()
    broken[3:6] = 0

    filled = fill_gaps(broken, SPACING_MM)

    # Corners come out a little round; the width in the middle is what it was.
    np.testing.assert_array_equal(filled[:, 10:15], labels[:, 10:15])
    np.testing.assert_array_equal(filled[:, :, 11:16], labels[:, :, 11:16])
    assert np.count_nonzero(filled != labels) <= 3 * 4 * 3


def test_wide_gaps_are_left_alone():
    broken = cone()
    broken[2:7] = 0  # 15 mm

    np.testing.assert_array_equal(fill_gaps(broken, SPACING_MM), broken)


def test_what_is_labeled_stays():
    broken = cone()
    broken[4] = 0
    broken[4, 10:14, 10:14] = 9

    filled = fill_gaps(broken, SPACING_MM)

    assert (filled[4, 10:14, 10:14] == 9).all()
    assert filled[4, 8, 8] == 1


def test_where_two_organs_claim_a_voxel_the_deeper_one_wins():
    labels = np.zeros((3, 20, 30), np.uint8)
    labels[0, 4:16, 2:14] = 1
    labels[2, 4:16, 2:14] = 1
    labels[0, 4:16, 14:28] = 3
    labels[2, 4:16, 14:28] = 3

    filled = fill_gaps(labels, SPACING_MM)

    np.testing.assert_array_equal(filled[1], labels[0])


def test_an_organ_that_moves_away_is_not_bridged():
    labels = np.zeros((3, 20, 30), np.uint8)
    labels[0, 2:6, 2:6] = 1
    labels[2, 14:18, 24:28] = 1

    np.testing.assert_array_equal(fill_gaps(labels, SPACING_MM), labels)
