import dataclasses
import tracemalloc

import numpy as np

from app.config import SEGMENT
from app.imaging.geometry import Geometry
from app.imaging.intensity import normalize
from app.imaging.preprocess import AIR, network_input
from app.imaging.volume import Volume


def test_hu_are_resampled_first_and_clipped_afterwards():
    # Averaging -1000 and 200 before clipping gives -400, which is air; clipping
    # first would give (-250 + 200) / 2 = -25, which is fat and water.
    config = dataclasses.replace(SEGMENT, spacing_mm=(4.0, 3.0, 2.0))
    hu = np.empty((8, 3, 5), np.int16)
    hu[::2], hu[1::2] = -1000, 200
    scan = Volume(hu, Geometry(shape=(8, 3, 5), spacing_mm=(2.0, 3.0, 2.0)))
    seen = network_input(scan, config)
    assert seen.shape == (4, 3, 5)
    assert seen.dtype == np.float32
    np.testing.assert_array_equal(seen[1:-1], AIR)


def test_intensities_are_scaled_with_one_copy():
    hu = np.ones((20, 150, 170), np.float32)
    tracemalloc.start()
    scaled = normalize(hu, (-250.0, 350.0))
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert hu[0, 0, 0] == 1  # the input stays
    assert scaled.nbytes <= peak_bytes < 1.5 * scaled.nbytes
