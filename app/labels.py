"""The organ table: what each value of a label map means.

Values and names are those of the FLARE challenge. NSD tolerances are the
challenge's, in mm. Colors are sRGB, the one definition for pictures, page and all files. They
began at hues that people give these organs (vessels red and blue, a green gallbladder) and
were moved apart until any two differ, neighbors most, also to eyes without red or green cones.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from app.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Organ:
    """One organ of the label map.

    Parameters
    ----------
    value : int
        Value in the label map, 1 to 13.
    name : str
        Lower-case identifier with underscores.
    tolerance_mm : float
        Tolerance of the normalized surface distance in the FLARE challenge, in mm.
    color : (r, g, b) ints
        Display color, 0 to 255.
    partner : int or None
        Value of the same organ on the other side of the body.
    """

    value: int
    name: str
    tolerance_mm: float
    color: tuple[int, int, int]
    partner: int | None = None


ORGANS: tuple[Organ, ...] = (
    Organ(value=1, name="liver", tolerance_mm=5.0, color=(240, 146, 136)),
    Organ(value=2, name="right_kidney", tolerance_mm=3.0, color=(141, 129, 50), partner=13),
    Organ(value=3, name="spleen", tolerance_mm=3.0, color=(86, 60, 207)),
    Organ(value=4, name="pancreas", tolerance_mm=5.0, color=(255, 234, 255)),
    Organ(value=5, name="aorta", tolerance_mm=2.0, color=(175, 20, 15)),
    Organ(value=6, name="inferior_vena_cava", tolerance_mm=2.0, color=(82, 135, 255)),
    Organ(value=7, name="right_adrenal_gland", tolerance_mm=2.0, color=(255, 155, 15), partner=8),
    Organ(value=8, name="left_adrenal_gland", tolerance_mm=2.0, color=(251, 85, 167), partner=7),
    Organ(value=9, name="gallbladder", tolerance_mm=2.0, color=(15, 111, 78)),
    Organ(value=10, name="esophagus", tolerance_mm=3.0, color=(160, 30, 111)),
    Organ(value=11, name="stomach", tolerance_mm=5.0, color=(27, 194, 236)),
    Organ(value=12, name="duodenum", tolerance_mm=7.0, color=(219, 255, 24)),
    Organ(value=13, name="left_kidney", tolerance_mm=3.0, color=(255, 225, 159), partner=2),
)

NUM_CLASSES = len(ORGANS) + 1
"""Background and the organs."""

CLASS_NAMES: tuple[str, ...] = ("background", *(organ.name for organ in ORGANS))
"""Name of each value of a label map, background included."""

TUBES = frozenset({"aorta", "inferior_vena_cava", "esophagus"})
"""They leave the abdomen by nature, so that every scan cuts them along z."""


def values_of(names: Iterable[str]) -> frozenset[int]:
    """Give the label values of organs by their names.

    Raises
    ------
    UsageError
        If there is no such organ, or none is named.
    """
    values = {organ.name: organ.value for organ in ORGANS}
    wanted = list(names)
    unknown = [name for name in wanted if name not in values]
    if unknown or not wanted:
        raise UsageError(
            f"organs {', '.join(unknown) or '(none)'}: not known; known are {', '.join(values)}"
        )
    return frozenset(values[name] for name in wanted)


def mirrored_values() -> tuple[int, ...]:
    """Give, for each label value, the value it takes when left and right are exchanged.

    Returns
    -------
    tuple of 14 ints
        ``mirrored_values()[2] == 13``: a flipped right kidney is a left kidney.
    """
    values = list(range(NUM_CLASSES))
    for organ in ORGANS:
        if organ.partner is not None:
            values[organ.value] = organ.partner
    return tuple(values)
