"""Organs as people have them, for all checks of plausibility."""

from math import exp

import pytest

from app.cascade.norms import read_norms
from app.imaging.organ_placement import OrganPlacement


@pytest.fixture
def usual():
    """Give every organ as it mostly is in people, whole and in its place."""
    return {
        name: OrganPlacement(
            volume_ml=(norm.low_ml + norm.high_ml) / 2,
            center_mm=norm.center_mm,
            extent_mm=(exp(norm.height), 1.0, 1.0),
            cut=(False, False, False),
            largest_share=1.0,
        )
        for name, norm in read_norms().items()
    }
