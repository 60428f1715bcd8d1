import numpy as np
import pytest

from app.synthesis.fields import smooth_noise


def test_noise_has_unit_variance_and_the_asked_size():
    noise = smooth_noise((70, 80, 90), (2.0, 1.5, 1.8), 12.0, np.random.default_rng(0))
    assert noise.shape == (70, 80, 90)
    assert noise.std() == pytest.approx(1.0, abs=0.15)
