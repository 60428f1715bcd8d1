"""Phantoms as files: turned to any orientation, placed in space, written."""

from itertools import permutations
from pathlib import Path

import numpy as np
import numpy.typing as npt

from app.errors import OutputError, UsageError
from app.imaging.geometry import Geometry, SpacingZYX
from app.imaging.io import write_volume
from app.imaging.orientation import Orientation, from_lps
from app.imaging.volume import Volume

_LETTERS = ("SI", "PA", "LR")
"""Along canonical z, y and x: the letter of the rising and of the falling direction."""

ORIENTATIONS = tuple(
    "".join(_LETTERS[axis][flip] for axis, flip in zip(order, flips, strict=True))
    for order in permutations((2, 1, 0))
    for flips in np.ndindex(2, 2, 2)
)
"""All 48 names, such as ``"LPS"``: where a stored scan's x, y and z axes point."""


def parse_orientation(name: str) -> Orientation:
    """Read the name of an orientation.

    Parameters
    ----------
    name : str
        Three letters, one of L or R, one of P or A and one of S or I: the
        directions in which the stored x, y and z axes grow.

    Returns
    -------
    Orientation

    Raises
    ------
    UsageError
        If the name is none of :data:`ORIENTATIONS`.
    """
    letters = name.upper()
    if letters not in ORIENTATIONS:
        raise UsageError(
            f"orientation {name!r}: three letters expected, one of L/R, one of P/A and one of "
            "S/I in any order, such as LPS or RAS"
        )
    # The name runs along x, y, z; arrays run along z, y, x.
    stored = letters[::-1]
    z, y, x = (next(i for i in range(3) if stored[i] in pair) for pair in _LETTERS)
    down = [stored[axis] == pair[1] for axis, pair in zip((z, y, x), _LETTERS, strict=True)]
    return Orientation(axes=(z, y, x), flipped=(down[0], down[1], down[2]))


def store(
    array: npt.NDArray[np.int16] | npt.NDArray[np.uint8],
    spacing_mm: SpacingZYX,
    orientation: Orientation,
) -> Volume:
    """Turn a canonical array to how a scanner might have stored it, centered on the world's origin.

    Parameters
    ----------
    array : (Z, Y, X) array of int16 or uint8
        Scan or label map, axes along S, P and L.
    spacing_mm : (z, y, x) floats
        Its spacing, in mm.
    orientation : Orientation
        How it is to be stored.

    Returns
    -------
    Volume
        A view, with the grid that puts each voxel where it was.
    """
    first = np.array([-(n - 1) / 2 * step for n, step in zip(array.shape, spacing_mm, strict=True)])
    sign = np.where(orientation.flipped, -1.0, 1.0)
    direction = np.zeros((3, 3))
    direction[range(3), orientation.axes] = sign
    stored = np.argsort(orientation.axes)
    turned = from_lps(array, orientation)
    steps = [spacing_mm[axis] for axis in stored]
    geometry = Geometry(
        shape=(turned.shape[0], turned.shape[1], turned.shape[2]),
        spacing_mm=(steps[0], steps[1], steps[2]),
        # Centered, so that a flipped axis starts where an unflipped one ends.
        origin_mm=tuple((first * sign).tolist()),
        direction=tuple((z, y, x) for z, y, x in direction.tolist()),
    )
    return Volume(turned, geometry)


def write_phantom(volume: Volume, path: Path) -> None:
    """Write a phantom's scan or label map, making the folder if need be.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{path.parent}: no such folder can be made ({error})") from error
    write_volume(volume, path)
