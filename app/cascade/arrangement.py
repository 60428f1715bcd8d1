"""Tell whether the organs lie to one another as organs do.

A header can lie about directions, and a program can turn a scan by mistake. The
anatomy does not: liver right, spleen left, esophagus above duodenum, kidneys
behind the stomach. Organ centers are compared with their usual places after the
best common shift, so neither field of view nor coordinates matter.

Networks that only ever saw upright bodies label a mirrored scan by place, not by
looks. What they find there lies oddly all the same: that is what is measured.
"""

from collections.abc import Mapping
from dataclasses import replace
from math import sqrt
from statistics import fmean

from app.cascade.norms import LEAST_ML, OrganNorm, read_norms
from app.imaging.organ_placement import OrganPlacement

LEAST_ORGANS = 5
"""With fewer organs nothing is said about how they lie."""

UNLIKELY = 1.25
"""Misfit that 5 of 100 whole anatomies exceed; docs/RELIABILITY.md says how many turned ones do."""

TURNS: Mapping[str, tuple[bool, bool, bool]] = {
    "mirrored": (False, False, True),
    "upside_down": (True, False, False),
    "front_to_back": (False, True, False),
    "half_turn": (False, True, True),
    "feet_first": (True, False, True),
}
"""Ways a scan may lie, by the axes (z, y, x) on which it is turned around."""

# Deviations beyond this many spreads count no more, so that one stray organ decides nothing.
_MOST = 5.0
# Where the scan cuts an organ, the center of what is left lies less surely.
_CUT = 2.0


def deviations(placements: Mapping[str, OrganPlacement]) -> dict[str, tuple[float, float, float]]:
    """Tell how far each organ lies from its usual place among the others.

    Parameters
    ----------
    placements : mapping of str to OrganPlacement
        Organs found, in canonical orientation.

    Returns
    -------
    dict of str to (z, y, x) floats
        In spreads, signed. Organs of less than 0.5 ml are left out; empty if
        there are too few organs to tell.
    """
    norms = read_norms()
    known = {name: found for name, found in placements.items() if found.volume_ml >= LEAST_ML}
    if len(known) < LEAST_ORGANS:
        return {}
    along = [_along(known, norms, axis) for axis in range(3)]
    return {name: (along[0][name], along[1][name], along[2][name]) for name in known}


def misfit(placements: Mapping[str, OrganPlacement]) -> float | None:
    """Tell how unusual the organs lie as a whole.

    Parameters
    ----------
    placements : mapping of str to OrganPlacement
        Organs found, in canonical orientation.

    Returns
    -------
    float or None
        Mean deviation along each axis in spreads, as root mean square over the
        axes, so that one odd axis tells; about 0.8 in people. None if there are
        too few organs to tell.
    """
    found = deviations(placements)
    if not found:
        return None
    along = [fmean(min(abs(place[axis]), _MOST) for place in found.values()) for axis in range(3)]
    return sqrt(fmean(mean**2 for mean in along))


def better_turn(placements: Mapping[str, OrganPlacement]) -> str | None:
    """Find the turn that would make oddly lying organs lie as usual.

    Parameters
    ----------
    placements : mapping of str to OrganPlacement
        Organs found, in canonical orientation.

    Returns
    -------
    str or None
        A key of :data:`TURNS`; None if none makes the organs likely.
    """
    fits = {name: misfit(_turned(placements, flips)) for name, flips in TURNS.items()}
    known = {name: fit for name, fit in fits.items() if fit is not None and fit <= UNLIKELY}
    return min(known, key=lambda name: known[name], default=None)


def _along(
    placements: Mapping[str, OrganPlacement], norms: Mapping[str, OrganNorm], axis: int
) -> dict[str, float]:
    """Give every organ's deviation along one axis, in spreads."""
    spreads = {
        name: norms[name].spread_mm[axis] * (_CUT if placement.cut[axis] else 1.0)
        for name, placement in placements.items()
    }
    offsets = {
        name: placement.center_mm[axis] - norms[name].center_mm[axis]
        for name, placement in placements.items()
    }
    shift = _weighted_median([(offsets[name], 1 / spreads[name]) for name in placements])
    return {name: (offsets[name] - shift) / spreads[name] for name in placements}


def _weighted_median(values: list[tuple[float, float]]) -> float:
    """Find the value with half of the weight on either side."""
    half, so_far = sum(weight for _, weight in values) / 2, 0.0
    for value, weight in sorted(values):
        so_far += weight
        if so_far >= half:
            return value
    return 0.0


def _turned(
    placements: Mapping[str, OrganPlacement], flips: tuple[bool, bool, bool]
) -> dict[str, OrganPlacement]:
    """Give the placements of the same organs turned around along some axes."""
    return {
        name: replace(placement, center_mm=_turned_around(placement.center_mm, flips))
        for name, placement in placements.items()
    }


def _turned_around(
    place_mm: tuple[float, float, float], flips: tuple[bool, bool, bool]
) -> tuple[float, float, float]:
    z, y, x = (-along if flip else along for along, flip in zip(place_mm, flips, strict=True))
    return (z, y, x)
