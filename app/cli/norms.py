"""Measure in many people's label maps how large organs are and how they lie.

What comes out is app/cascade/norms.json, which the self-checks compare results with.
A volume counts where the label map's faces do not cut the organ, a place along the
axes on which they do not, proportions where it is whole.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from app.cascade.norms import OrganNorm
    from app.imaging.organ_placement import OrganPlacement

HELP = "measure what is usual for each organ, for the self-checks"

_ROUNDS = 20
_PERCENTILES = (1.0, 99.0)
# Standard deviation of a normal distribution from its median absolute deviation.
_SIGMA = 1.4826


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's arguments."""
    parser.add_argument(
        "--anatomies",
        type=Path,
        required=True,
        metavar="DIR",
        help="label maps (values 0 to 13), of any type that is read",
    )
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="default: app/cascade/norms.json"
    )


def run(arguments: argparse.Namespace) -> int:
    """Measure all label maps and write the norms; see the module's description."""
    from app.cascade.norms import NORMS_PATH, to_json
    from app.errors import UsageError
    from app.imaging.image_files import images_by_name
    from app.imaging.io import atomic_path
    from app.imaging.label_maps import read_label_map
    from app.imaging.organ_placement import measure_placement, thin

    files = images_by_name(arguments.anatomies, "--anatomies")
    if not files:
        raise UsageError(f"--anatomies {arguments.anatomies}: no organ maps found in it")
    people = []
    for file in files.values():
        label_map = read_label_map(file, organs_only=True)
        people.append(
            measure_placement(*thin(label_map.in_lps, label_map.source.geometry.spacing_mm))
        )
    norms = fit_norms(people)
    with atomic_path(arguments.output or NORMS_PATH) as partial:
        partial.write_text(to_json(norms, len(people)), encoding="utf-8")
    print(f"{len(people)} people measured")
    return 0


def fit_norms(people: "Sequence[dict[str, OrganPlacement]]") -> "dict[str, OrganNorm]":
    """Find what is usual for each organ.

    Places are known up to a shift of the whole body, so usual places and each
    body's shift are found in turns, by medians.

    Parameters
    ----------
    people : sequence of dicts of str to OrganPlacement
        Organs of each person, in canonical orientation.

    Returns
    -------
    dict of str to OrganNorm
        By organ name.

    Raises
    ------
    UsageError
        If nothing can be said of an organ: it is whole and of some size in nobody.
    """
    import numpy as np

    from app.cascade.norms import LEAST_ML, OrganNorm
    from app.cascade.proportions import height_of
    from app.errors import UsageError
    from app.labels import ORGANS

    names = [organ.name for organ in ORGANS]
    told = {
        name
        for person in people
        for name, found in person.items()
        if found.volume_ml >= LEAST_ML and not any(found.cut)
    }
    if missing := [name for name in names if name not in told]:
        raise UsageError(
            f"--anatomies: {', '.join(missing)} of at least {LEAST_ML} ml, and not cut by a face, "
            f"in none of {len(people)} label maps; add some that show every organ whole"
        )
    places = np.array([[_place(person.get(name)) for name in names] for person in people])
    usual = np.nanmedian(places - np.nanmean(places, axis=1, keepdims=True), axis=0)
    for _ in range(_ROUNDS):
        centered = places - np.nanmedian(places - usual, axis=1, keepdims=True)
        usual = np.nanmedian(centered, axis=0)
    spread = _SIGMA * np.nanmedian(np.abs(centered - usual), axis=0)
    norms = {}
    for index, name in enumerate(names):
        whole = [person[name] for person in people if name in person and not any(person[name].cut)]
        volumes_ml = [placement.volume_ml for placement in whole]
        low_ml, high_ml = np.percentile(volumes_ml, _PERCENTILES).round(2).tolist()
        heights = np.array(
            [height_of(found.extent_mm) for found in whole if found.volume_ml >= LEAST_ML]
        )
        height = float(np.median(heights))
        norms[name] = OrganNorm(
            low_ml=low_ml,
            high_ml=high_ml,
            center_mm=_three(usual[index]),
            spread_mm=_three(spread[index]),
            height=round(height, 3),
            height_spread=round(float(_SIGMA * np.median(np.abs(heights - height))), 3),
        )
    return norms


def _place(placement: "OrganPlacement | None") -> list[float]:
    """Give an organ's center, with NaN where it says nothing."""
    from app.cascade.norms import LEAST_ML

    nowhere = float("nan")
    if placement is None or placement.volume_ml < LEAST_ML:
        return [nowhere] * 3
    return [
        nowhere if cut else center
        for center, cut in zip(placement.center_mm, placement.cut, strict=True)
    ]


def _three(values: "npt.NDArray[np.float64]") -> tuple[float, float, float]:
    z, y, x = values.round(1).tolist()
    return (z, y, x)
