"""Organs can be told apart by their color, whatever cones an eye has.

Distances are CIEDE2000 (Sharma et al. 2005): a difference of 1 is just seen side by side, and
what people call by one name, such as two reds, is less than 10 apart.
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

NEIGHBORS = {
    "liver": "right_kidney gallbladder stomach inferior_vena_cava right_adrenal_gland duodenum "
    "esophagus pancreas aorta",
    "spleen": "stomach left_kidney pancreas left_adrenal_gland",
    "pancreas": "stomach duodenum aorta inferior_vena_cava left_kidney left_adrenal_gland",
    "aorta": "inferior_vena_cava esophagus left_adrenal_gland duodenum",
    "right_kidney": "right_adrenal_gland duodenum inferior_vena_cava left_kidney",
    "left_kidney": "left_adrenal_gland stomach",
    "gallbladder": "duodenum stomach",
    "stomach": "esophagus duodenum left_adrenal_gland",
    "inferior_vena_cava": "right_adrenal_gland duodenum esophagus",
}
"""Organs that touch, or are compared."""


def lab(color, eye):
    encoded = np.asarray(color) / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    xyz = TO_XYZ @ np.clip(np.asarray(eye) @ linear, 0, 1) / [0.9505, 1.0, 1.089]
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def distance(one, other):
    """Give the CIEDE2000 difference of two colors in CIE L*a*b*."""
    light, chroma = np.array([one[0], other[0]]), np.hypot(*np.transpose([one[1:], other[1:]]))
    mean = chroma.mean() ** 7
    a = np.array([one[1], other[1]]) * (1.5 - 0.5 * np.sqrt(mean / (mean + 25.0**7)))
    b = np.array([one[2], other[2]])
    chroma, hue = np.hypot(a, b), np.degrees(np.arctan2(b, a)) % 360
    turn = (hue[1] - hue[0] + 180) % 360 - 180
    middle = np.radians(hue[0] + turn / 2)
    mean_light, mean_chroma = light.mean(), chroma.mean()
    weight = (
        1
        - 0.17 * np.cos(middle - np.radians(30))
        + 0.24 * np.cos(2 * middle)
        + 0.32 * np.cos(3 * middle + np.radians(6))
        - 0.20 * np.cos(4 * middle - np.radians(63))
    )
    off = (mean_light - 50) ** 2
    by_light = (light[1] - light[0]) / (1 + 0.015 * off / np.sqrt(20 + off))
    by_chroma = (chroma[1] - chroma[0]) / (1 + 0.045 * mean_chroma)
    arc = 2 * np.sqrt(chroma.prod()) * np.sin(np.radians(turn) / 2)
    by_hue = arc / (1 + 0.015 * mean_chroma * weight)
    degrees = np.degrees(middle) % 360
    bend = np.radians(60 * np.exp(-(((degrees - 275) / 25) ** 2)))
    mean = mean_chroma**7
    tilt = -2 * np.sqrt(mean / (mean + 25.0**7)) * np.sin(bend)
    return np.sqrt(by_light**2 + by_chroma**2 + by_hue**2 + tilt * by_chroma * by_hue)


# Of the data that the formula's authors publish to test implementations by.
@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ((50.0, 2.6772, -79.7751), (50.0, 0.0, -82.7485), 2.0425),
        ((50.0, 2.5, 0.0), (73.0, 25.0, -18.0), 27.1492),
        ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
        ((2.0776, 0.0795, -1.135), (0.9033, -0.0636, -0.5514), 0.9082),
    ],
)
def test_distance_is_that_of_the_published_pairs(one, other, expected):
    assert distance(np.array(one), np.array(other)) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("eye", "least", "of_neighbors"),
    [("all cones", 20, 25), ("no green cones", 12, 15), ("no red cones", 12, 14)],
)
def test_any_two_organs_differ_and_neighbors_more(eye, least, of_neighbors):
    colors = {organ.name: lab(organ.color, EYES[eye]) for organ in ORGANS}
    for one, other in itertools.combinations(colors, 2):
        touch = other in NEIGHBORS.get(one, "").split() or one in NEIGHBORS.get(other, "").split()
        found = distance(colors[one], colors[other])
        wanted = of_neighbors if touch else least
        assert found >= wanted, f"{one} and {other} differ by {found:.1f} only"
