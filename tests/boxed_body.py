"""Eight organs as boxes, where they lie in a patient: for the tests of pseudo-labels."""

import numpy as np

from app.data.positions import learn_positions

SHAPE, SPACING_MM = (40, 36, 48), (5.0, 4.0, 3.0)
ORGAN_BOXES = {
    1: (slice(18, 34), slice(6, 26), slice(4, 20)),
    2: (slice(8, 18), slice(24, 32), slice(8, 14)),
    3: (slice(20, 30), slice(18, 30), slice(36, 44)),
    4: (slice(18, 22), slice(14, 18), slice(20, 36)),
    5: (slice(0, 40), slice(24, 29), slice(25, 29)),
    6: (slice(0, 40), slice(24, 29), slice(20, 24)),
    11: (slice(22, 34), slice(6, 18), slice(24, 38)),
    13: (slice(8, 18), slice(24, 32), slice(34, 40)),
}


def boxed_body():
    """Give the label map; x to the left, z to the head."""
    labels = np.zeros(SHAPE, np.uint8)
    for value, box in ORGAN_BOXES.items():
        labels[box] = value
    return labels


def boxed_positions():
    """Learn where its organs lie from two such bodies, one 10 mm higher than the other."""
    body = boxed_body()
    return learn_positions([(body, SPACING_MM), (np.roll(body, 2, axis=0), SPACING_MM)])
