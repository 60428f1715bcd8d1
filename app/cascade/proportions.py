"""Tell whether organs are as tall for their width as organs are.

A header that tells a wrong distance between slices makes all organs taller or flatter
alike, and nothing else in the image shows it: networks taught bodies of many proportions
label them all the same. One organ says little, for people differ; ten agree to a tenth.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import exp, log, sqrt

from app.cascade.norms import LEAST_ML, read_norms
from app.imaging.organ_placement import OrganPlacement
from app.labels import TUBES

LEAST_WHOLE = 3
"""With fewer whole organs nothing is said about their proportions."""

UNLIKELY_STRETCH = 4.2
"""Spreads beyond which proportions are odd; docs/RELIABILITY.md says how few people are and
how many wrong headers."""

# Large organs are taller than small ones, but not in proportion: a tenth wider, a 25th taller.
# Networks find a flattened organ too narrow as well, so that the mere ratio would miss it.
_SHARE_OF_WIDTH = 0.4
# How far a body as a whole differs from others, which no number of organs averages out.
_OF_BODIES = 0.06
# Deviations beyond this many spreads count no more, so that one stray organ decides nothing.
_MOST = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """How much taller the organs are than usual.

    Parameters
    ----------
    factor : float
        1 as usual, 2 where they are twice as tall for their width.
    deviation : float
        The same in spreads, signed: 0 as usual.
    """

    factor: float
    deviation: float


def height_of(extent_mm: tuple[float, float, float]) -> float:
    """Tell how tall an organ is for its width, on a scale of logarithms.

    Parameters
    ----------
    extent_mm : (z, y, x) floats
        Of the organ, in mm, each above 0.

    Returns
    -------
    float
        Grows by log 2 where the distance between slices is told twice as large.
    """
    z, y, x = extent_mm
    return log(z) - _SHARE_OF_WIDTH * (log(y) + log(x)) / 2


def is_whole(name: str, placement: OrganPlacement) -> bool:
    """Tell whether an organ's proportions count: no vessel, no speck, not cut by the scan."""
    return name not in TUBES and placement.volume_ml >= LEAST_ML and not any(placement.cut)


def find_stretch(placements: Mapping[str, OrganPlacement]) -> Stretch | None:
    """Compare the organs' proportions with those of people.

    Parameters
    ----------
    placements : mapping of str to OrganPlacement
        Organs found, in canonical orientation.

    Returns
    -------
    Stretch or None
        Mean over the organs that are whole, those of steady proportions counting most.
        None if there are too few of them.
    """
    norms = read_norms()
    whole = {name: found for name, found in placements.items() if is_whole(name, found)}
    if len(whole) < LEAST_WHOLE:
        return None
    total = weights = 0.0
    for name, placement in whole.items():
        norm = norms[name]
        odd = (height_of(placement.extent_mm) - norm.height) / norm.height_spread
        total += max(-_MOST, min(_MOST, odd)) / norm.height_spread
        weights += 1 / norm.height_spread**2
    mean = total / weights
    return Stretch(factor=exp(mean), deviation=mean / sqrt(_OF_BODIES**2 + 1 / weights))
