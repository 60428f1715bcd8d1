"""TensorBoard: the curve and pictures of a run, to watch it from a browser."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from torch.utils.tensorboard import SummaryWriter

from app.config import PhaseConfig
from app.imaging.geometry import FloatVolume, LabelVolume
from app.imaging.intensity import INPUT_LIMIT
from app.imaging.picture import busiest_slice, paint, three_planes

logger = logging.getLogger(__name__)

PIXELS_PER_MM = 1.0


class Board:
    """Event files of one run; where they cannot be written, it is told once and nothing ends.

    Parameters
    ----------
    folder : Path
        Where they go; give it to ``tensorboard --logdir``.
    after : int
        Last step that the run goes on from. Later ones that lie there are shown no more:
        a run that was killed takes them again.
    """

    def __init__(self, folder: Path, *, after: int = 0) -> None:
        self.folder = folder
        self.writer: SummaryWriter | None = None
        with self._told():
            self.writer = SummaryWriter(str(folder), purge_step=after + 1)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Show numbers of a step, by name."""
        if self.writer is not None:
            with self._told():
                for name, value in values.items():
                    self.writer.add_scalar(name, value, step)
                self.writer.flush()

    def picture(self, step: int, name: str, picture: npt.NDArray[np.uint8]) -> None:
        """Show a picture, (rows, columns, 3), of a step."""
        if self.writer is not None:
            with self._told():
                self.writer.add_image(name, picture, step, dataformats="HWC")
                self.writer.flush()

    def close(self) -> None:
        """Write what is left."""
        if self.writer is not None:
            with self._told():
                self.writer.close()

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Go on without a board that cannot be written, as on a full disk."""
        try:
            yield
        except OSError as error:
            self.writer = None
            logger.warning(
                "%s: TensorBoard's events cannot be written (%s); the training goes on without "
                "them",
                self.folder,
                error.strerror,
            )


def draw_comparison(
    image: FloatVolume, wanted: LabelVolume, found: LabelVolume, phase: PhaseConfig
) -> npt.NDArray[np.uint8]:
    """Draw the reference above the prediction, in an axial and a coronal plane.

    Parameters
    ----------
    image : (Z, Y, X) array of float32
        Network input.
    wanted, found : (Z, Y, X) arrays of uint8
        Reference and prediction.
    phase : PhaseConfig
        Gives spacing and intensity window.

    Returns
    -------
    (rows, columns, 3) array of uint8
    """
    low, high = phase.window_hu
    hu = (low + (image + INPUT_LIMIT) * (high - low) / (2 * INPUT_LIMIT)).astype(np.int16)
    z, y = busiest_slice(wanted, axis=0), busiest_slice(wanted, axis=1)
    rows = []
    for name, labels in (("reference", wanted), ("prediction", found)):
        axial, coronal, _ = three_planes(hu, labels, phase.spacing_mm, (z, y, 0))
        row = _beside(paint(axial, PIXELS_PER_MM), paint(coronal, PIXELS_PER_MM))
        # Outlined, so that it is read on bright bone too.
        ImageDraw.Draw(row).text((6, 4), name, "white", stroke_width=1, stroke_fill="black")
        rows.append(np.asarray(row))
    return np.concatenate(rows)


def _beside(left: Image.Image, right: Image.Image) -> Image.Image:
    both = Image.new("RGB", (left.width + right.width, max(left.height, right.height)))
    both.paste(left, (0, 0))
    both.paste(right, (left.width, 0))
    return both
