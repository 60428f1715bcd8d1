import numpy as np

from app.synthesis.tissues import ORGAN_OF_TISSUE, look_up


def test_a_look_up_gives_what_indexing_gives_and_may_be_changed():
    tissues = np.random.default_rng(0).integers(0, 256, (5, 7, 9), dtype=np.uint8)
    marks = np.arange(256) % 3 == 0
    for volume in (tissues, tissues[1:4, ::2, 2:]):
        np.testing.assert_array_equal(look_up(ORGAN_OF_TISSUE, volume), ORGAN_OF_TISSUE[volume])
        marked = look_up(marks, volume)
        np.testing.assert_array_equal(marked, marks[volume])
        marked &= False
        assert not marked.any()
