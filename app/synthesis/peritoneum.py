"""Where bowel cannot lie: behind the organs at the back of the abdomen, and in the chest.

All fat between organs is one tissue, but bowel lies in the peritoneal cavity alone, and so does
ascites. Gas around the aorta, behind the pancreas or behind a kidney is found in no patient.
"""

from collections.abc import Callable
from functools import wraps

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from app.imaging.geometry import BoolVolume
from app.synthesis.scene import Scene
from app.synthesis.tissues import ORGAN_OF_TISSUE, Tissue, look_up

_AT_THE_BACK = (Tissue.PANCREAS, Tissue.DUODENUM, Tissue.AORTA, Tissue.INFERIOR_VENA_CAVA)

_IN_RENAL_FAT = (
    Tissue.RIGHT_KIDNEY,
    Tissue.LEFT_KIDNEY,
    Tissue.RIGHT_ADRENAL,
    Tissue.LEFT_ADRENAL,
)

_RENAL_FAT_MM = 40.0
"""How far the fat around the kidneys goes on above and below them."""

_GAP_MM = 60.0
"""Room between two of these organs, side by side, up to which it lies behind the peritoneum."""

_BACK, _RENAL = 1, 2

Rows = npt.NDArray[np.int16]


def _place_table() -> npt.NDArray[np.uint8]:
    table = np.zeros(256, np.uint8)
    table[np.isin(ORGAN_OF_TISSUE, _AT_THE_BACK)] = _BACK
    table[np.isin(ORGAN_OF_TISSUE, _IN_RENAL_FAT)] = _RENAL
    return table


_PLACE_OF_TISSUE = _place_table()


def _first_row(mask: BoolVolume) -> Rows:
    """Give the first index of a mask in each line along y; the line's length without any."""
    num_z, num_y, num_x = mask.shape
    first = np.full((num_z, num_x), num_y, np.int16)
    # A tenth of the time that argmax takes across lines.
    for row in range(num_y - 1, -1, -1):
        first[mask[:, row]] = row
    return first


def _bridge(front: Rows, gap: int, *, nothing: int) -> Rows:
    """Give lines between two that hold something, up to a gap apart, the deeper one's row."""
    # An opening takes away what stands out over fewer lines than its width.
    padded = np.pad(front, ((0, 0), (gap, gap)), constant_values=nothing)
    opened: Rows = ndimage.grey_opening(padded, (1, gap + 1))
    return opened[:, gap : padded.shape[1] - gap]


def fat_behind_peritoneum(scene: Scene) -> BoolVolume:
    """Mark the fat behind the organs at the back of the abdomen.

    That is fat behind pancreas, duodenum, kidneys, adrenal glands, aorta and vena cava,
    line by line from front to back; between two of them from the deeper one on; and as
    far back above and below the kidneys.

    Parameters
    ----------
    scene : Scene
        Not changed. What lies beyond its borders is not known: where it cuts an organ
        off, less is marked.

    Returns
    -------
    (Z, Y, X) array of bool
        Voxels of ``Tissue.MESENTERY``.
    """
    place = look_up(_PLACE_OF_TISSUE, scene.tissues)
    num_y = place.shape[1]
    step_z, _, step_x = scene.spacing_mm
    renal = ndimage.minimum_filter1d(
        _first_row(place == _RENAL), 2 * int(_RENAL_FAT_MM / step_z) + 1, axis=0, mode="nearest"
    )
    front = np.minimum(_first_row(place == _BACK), renal)
    front = _bridge(front, int(_GAP_MM / step_x), nothing=num_y)
    behind: BoolVolume = np.arange(num_y, dtype=np.int16)[:, None] >= front[:, None]
    behind &= scene.tissues == Tissue.MESENTERY
    return behind


def fat_in_chest(scene: Scene) -> BoolVolume:
    """Mark the fat above liver or lung; it is ``Tissue.MESENTERY`` as well."""
    above: BoolVolume = (scene.tissues == Tissue.LIVER) | (scene.tissues == Tissue.LUNG)
    # Plane by plane: NumPy's accumulate goes up one line after the other, a hundred times as slow.
    for below, plane in zip(above, above[1:], strict=False):
        plane |= below
    above &= scene.tissues == Tissue.MESENTERY
    return above


def within_peritoneum(lay: Callable[[Scene], None]) -> Callable[[Scene], None]:
    """Keep a function that lays bowel into ``Tissue.MESENTERY`` inside the peritoneal cavity."""

    @wraps(lay)
    def lay_within(scene: Scene) -> None:
        outside = fat_behind_peritoneum(scene) | fat_in_chest(scene)
        # Bowel is never laid into the fat under the skin.
        scene.turn(outside, Tissue.FAT)
        lay(scene)
        scene.turn(outside, Tissue.MESENTERY)

    return lay_within
