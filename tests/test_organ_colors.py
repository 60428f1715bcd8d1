"""Organs can be told apart by their color, whatever cones an eye has.

Distances are Euclidean in CIE L*a*b*; a difference of 2 is just seen side by side.
The matrices simulate full dichromacy on linear RGB (Machado et al. 2009, severity 1).
"""

import itertools

import numpy as np
import pytest

from app.labels import ORGANS

EYES = {
    "all cones": np.eye(3),
    "no green cones": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "no red cones": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
}
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def lab(color, eye):
    encoded = np.asarray(color) / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    xyz = TO_XYZ @ np.clip(np.asarray(eye) @ linear, 0, 1) / [0.9505, 1.0, 1.089]
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize(
    ("eye", "least"), [("all cones", 25), ("no green cones", 15), ("no red cones", 15)]
)
def test_any_two_organs_differ(eye, least):
    colors = {organ.name: lab(organ.color, EYES[eye]) for organ in ORGANS}
    for one, other in itertools.combinations(colors, 2):
        distance = np.linalg.norm(colors[one] - colors[other])
        assert distance >= least, f"{one} and {other} differ by {distance:.1f} only"
