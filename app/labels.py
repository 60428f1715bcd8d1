"""The organ table: what each value of a label map means.

Values and names are those of the FLARE challenge. NSD tolerances are the
challenge's, in mm. Colors are sRGB: hues that 3D Slicer's users know, set apart until
any two of them differ, also to the eyes of those who see no red or no green.
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
    Organ(value=1, name="liver", tolerance_mm=5.0, color=(192, 65, 60)),
    Organ(value=2, name="right_kidney", tolerance_mm=3.0, color=(207, 143, 70), partner=13),
    Organ(value=3, name="spleen", tolerance_mm=3.0, color=(152, 67, 135)),
    Organ(value=4, name="pancreas", tolerance_mm=5.0, color=(248, 224, 200)),
    Organ(value=5, name="aorta", tolerance_mm=2.0, color=(217, 20, 20)),
    Organ(value=6, name="inferior_vena_cava", tolerance_mm=2.0, color=(57, 130, 231)),
    Organ(value=7, name="right_adrenal_gland", tolerance_mm=2.0, color=(254, 128, 22), partner=8),
    Organ(value=8, name="left_adrenal_gland", tolerance_mm=2.0, color=(255, 150, 140), partner=7),
    Organ(value=9, name="gallbladder", tolerance_mm=2.0, color=(36, 144, 88)),
    Organ(value=10, name="esophagus", tolerance_mm=3.0, color=(250, 105, 155)),
    Organ(value=11, name="stomach", tolerance_mm=5.0, color=(98, 215, 216)),
    Organ(value=12, name="duodenum", tolerance_mm=7.0, color=(190, 240, 78)),
    Organ(value=13, name="left_kidney", tolerance_mm=3.0, color=(247, 216, 130), partner=2),
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
