import dataclasses

import numpy as np

from app.cascade.bundle import Phase
from app.cascade.locate import Abdomen
from app.cascade.restore import best_class
from app.cascade.segment import segment
from app.config import SEGMENT
from app.imaging.geometry import Box, Geometry
from app.imaging.volume import Volume

SPACING_MM = (4.0, 2.0, 3.0)
CONTEXT = Box(start=(5, 10, 15), stop=(25, 50, 45))  # 80 x 80 x 90 mm
LOCATED = Box(start=(10, 20, 25), stop=(20, 40, 35))  # 40 x 40 x 30 mm in the middle of it


class LiverEverywhere:
    """A segmenter that sees nothing but liver."""

    patch_shape = (16, 32, 48)
    num_channels = 14

    def run(self, patch):
        scores = np.zeros((14, *patch.shape), np.float32)
        scores[1] = 3
        return scores


def test_what_phase_one_did_not_locate_is_seen_but_not_labeled():
    geometry = Geometry(shape=(40, 60, 50), spacing_mm=SPACING_MM)
    abdomen = Abdomen(
        box=LOCATED,
        geometry=geometry,
        foreground=np.ones((40, 30, 38), bool),
        spacing_mm=(4.0, 4.0, 4.0),
    )
    region = Volume(np.zeros(CONTEXT.shape, np.int16), geometry.crop(CONTEXT))
    config = dataclasses.replace(
        SEGMENT, patch_shape=LiverEverywhere.patch_shape, spacing_mm=(2.0, 2.0, 2.0)
    )

    scores = segment(region, CONTEXT, abdomen, Phase(config=config, network=LiverEverywhere()))

    # On the 40 x 40 x 45 grid of 2 mm the located part lies at 20 ... 60, 20 ... 60 and
    # 30 ... 60 mm of the context.
    expected = np.zeros((40, 40, 45), np.uint8)
    expected[10:30, 10:30, 15:30] = 1
    np.testing.assert_array_equal(best_class(scores.logits), expected)
    assert scores.inside == Box(start=(10, 10, 15), stop=(30, 30, 30))
    assert scores.box == CONTEXT
    assert np.array_equal(scores.seen, expected == 1)
