"""A template, a patient, and the body made of both."""

import numpy as np
import pytest
from crude_anatomy import GRID_MM, LEAN, ellipsoid, organ_map

from app.synthesis.body import complete_body
from app.synthesis.fit import find_landmarks
from app.synthesis.template import Template
from app.synthesis.tissues import Tissue
from app.synthesis.whole_body import SPACING_MM


@pytest.fixture(scope="session")
def template():
    """Give a body of ellipses: muscle around fat, lungs on top, a spine behind."""
    shape = (90, 80, 98)
    organs = organ_map(shape)
    tissues = np.zeros(shape, np.uint8)
    tissues[ellipsoid(shape, (45, 40, 49), (1e4, 34, 44))] = Tissue.MUSCLE
    tissues[ellipsoid(shape, (45, 38, 49), (1e4, 27, 38))] = Tissue.MESENTERY
    for x in (30, 66):
        tissues[ellipsoid(shape, (85, 38, x), (30, 22, 16))] = Tissue.LUNG
    tissues[ellipsoid(shape, (45, 62, 49), (1e4, 7, 7))] = Tissue.TRABECULAR_BONE
    tissues[organs > 0] = organs[organs > 0]
    return Template(
        name="ellipses",
        tissues=tissues,
        organs=organs,
        landmarks=find_landmarks(organs, SPACING_MM),
    )


@pytest.fixture(scope="session")
def patient():
    """Give a slightly larger patient whose organ map ends below and above the organs."""
    return organ_map((74, 76, 92), shift=(-6, -1, -4), scale=1.06)


@pytest.fixture(scope="session")
def body(template, patient):
    return complete_body(
        patient, template, np.random.default_rng(4), spacing_mm=GRID_MM, habitus=LEAN
    )
