"""How large organs are and how they lie to one another, over 250 people.

The numbers are in ``norms.json``; ``python -m app norms`` makes it from label maps.
"""

import functools
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

NORMS_PATH = Path(__file__).with_name("norms.json")

LEAST_ML = 0.5
"""Place and proportions of less say nothing; the norms were measured without it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OrganNorm:
    """What is usual for one organ.

    Parameters
    ----------
    low_ml, high_ml : float
        The 1st and 99th percentile of its volume, in ml, where it is whole.
    center_mm : (z, y, x) floats
        Its usual place among the organs, in mm towards head, back and left.
    spread_mm : (z, y, x) floats
        Standard deviation of that place, in mm, estimated robustly.
    height : float
        How tall it is for its width, as :func:`app.cascade.proportions.height_of` tells.
    height_spread : float
        Standard deviation of that, estimated robustly.
    """

    low_ml: float
    high_ml: float
    center_mm: tuple[float, float, float]
    spread_mm: tuple[float, float, float]
    height: float
    height_spread: float


@functools.cache
def read_norms() -> Mapping[str, OrganNorm]:
    """Read what is usual, by organ name."""
    stored = json.loads(NORMS_PATH.read_text(encoding="utf-8"))
    return {
        name: OrganNorm(
            low_ml=norm["low_ml"],
            high_ml=norm["high_ml"],
            center_mm=tuple(norm["center_mm"]),
            spread_mm=tuple(norm["spread_mm"]),
            height=norm["height"],
            height_spread=norm["height_spread"],
        )
        for name, norm in stored["organs"].items()
    }


def to_json(norms: Mapping[str, OrganNorm], num_people: int) -> str:
    """Give the text of ``norms.json``."""
    organs = {name: asdict(norm) for name, norm in norms.items()}
    return json.dumps({"num_people": num_people, "organs": organs}, indent=1) + "\n"
