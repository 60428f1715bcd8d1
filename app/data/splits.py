"""Which patients are trained on and which are held out.

Some patients of the anatomies occur twice, under two names and at times at two
slice spacings. They are recognized by their organ volumes, and stay on one side.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from app.errors import UnreadableScanError
from app.labels import ORGANS

SAME_PATIENT = 0.08
"""Mean absolute log ratio of organ volumes below which two label maps are one patient.

Over the 250 anatomies the eight repeated patients lie below 0.05, all other pairs above 0.11.
"""

HOLD_OUT_EVERY = 9

UNUSABLE = frozenset({"testing_0173"})
"""Cases on neither side: this label map is stored upside down."""

FRAGMENT_ML = {
    "right_kidney": 35.0,
    "spleen": 30.0,
    "pancreas": 15.0,
    "inferior_vena_cava": 12.0,
    "right_adrenal_gland": 0.8,
    "left_adrenal_gland": 0.8,
    "stomach": 60.0,
    "duodenum": 20.0,
    "left_kidney": 35.0,
}
"""Volumes, in ml, below which a label is what a network left of an organ, or a speck where it was
taken out. Of the 250 anatomies 15 have one; the least of the whole organs is 1.4 to 126 times the
largest fragment. A scan made of such a map has labels for a part of what it seems to show, so they
are on neither side.
"""


@dataclass(frozen=True, slots=True)
class Split:
    """Case names, without suffix, sorted.

    Parameters
    ----------
    train, held_out : tuples of str
        Disjoint in patients, not only in names.
    """

    train: tuple[str, ...]
    held_out: tuple[str, ...]


def group_patients(organ_ml: dict[str, list[float]]) -> list[list[str]]:
    """Group cases that show the same patient.

    Parameters
    ----------
    organ_ml : dict of str to 13 floats
        Organ volumes of each case, in ml.

    Returns
    -------
    list of lists of str
        Each group sorted, groups in the order of their first case.
    """
    names = sorted(organ_ml)
    logs = np.log(np.array([organ_ml[name] for name in names]) + 0.5)
    groups: list[list[int]] = []
    for index in range(len(names)):
        for group in groups:
            if min(np.abs(logs[group] - logs[index]).mean(axis=1)) < SAME_PATIENT:
                group.append(index)
                break
        else:
            groups.append([index])
    return [[names[index] for index in group] for group in groups]


def fragments(organ_ml: list[float]) -> list[str]:
    """Name the organs of a label map that are mere fragments.

    Parameters
    ----------
    organ_ml : 13 floats
        Organ volumes, in ml; 0 where an organ is absent, which is no fragment.

    Returns
    -------
    list of str
    """
    return [
        organ.name
        for organ, ml in zip(ORGANS, organ_ml, strict=True)
        if 0 < ml < FRAGMENT_ML.get(organ.name, 0)
    ]


def split_anatomies(manifest: Path) -> Split:
    """Hold out every ninth patient of the anatomies, with all cases that show him or her.

    Cases that are no good (:data:`UNUSABLE`, :data:`FRAGMENT_ML`) are left out after that, so that
    they move no other.

    Parameters
    ----------
    manifest : Path
        ``manifest.json`` beside the anatomies.

    Returns
    -------
    Split

    Raises
    ------
    UnreadableScanError
        If the manifest is missing or not the expected list.
    """
    try:
        entries = json.loads(manifest.read_text())
        organ_ml = {Path(entry["file"]).stem: entry["organ_ml"] for entry in entries}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UnreadableScanError(
            f"{manifest}: expected the anatomies' manifest ({error})"
        ) from error
    groups = group_patients(organ_ml)
    held_out = {name for group in groups[::HOLD_OUT_EVERY] for name in group}
    unusable = UNUSABLE | {name for name, volumes in organ_ml.items() if fragments(volumes)}
    return Split(
        train=tuple(sorted(set(organ_ml) - held_out - unusable)),
        held_out=tuple(sorted(held_out - unusable)),
    )
