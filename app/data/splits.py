"""Which patients are trained on and which are held out.

Some patients of the anatomies occur twice, under two names and at times at two
slice spacings. They are recognized by their organ volumes, and stay on one side.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from app.errors import UnreadableScanError

SAME_PATIENT = 0.08
"""Mean absolute log ratio of organ volumes below which two label maps are one patient.

Over the 250 anatomies the eight repeated patients lie below 0.05, all other pairs above 0.11.
"""

HOLD_OUT_EVERY = 9

UNUSABLE = frozenset({"testing_0173"})
"""Cases on neither side: this label map is stored upside down."""


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


def split_anatomies(manifest: Path) -> Split:
    """Hold out every ninth patient of the anatomies, with all cases that show him or her.

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
    return Split(
        train=tuple(sorted(set(organ_ml) - held_out - UNUSABLE)),
        held_out=tuple(sorted(held_out - UNUSABLE)),
    )
