"""START HERE: draw a case after the other, then write the page about all of them."""

import tempfile
from collections.abc import Collection
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from app.imaging.crop import bounding_box, crop
from app.imaging.geometry import LabelVolume
from app.imaging.io import as_text, atomic_path, write_volume
from app.imaging.label_maps import read_pair
from app.imaging.organ_volumes import organ_volumes_ml
from app.imaging.volume import Volume
from app.report.page import REPORT_NAME, PageCase, ViewerFiles, page_parts
from app.report.picture import draw_picture
from app.report.viewing_copy import ViewingCopy, viewing_copy

MOST_PAGE_BYTES = 100_000_000
"""Beyond this, cases are in the page's table but not in its viewer."""

AROUND_ORGANS_MM = 6.0
"""Margin of the viewer's label maps, in mm."""

PAGE_PICTURE_PIXELS = 1280
JPEG_QUALITY = 86


class ReportWriter:
    """Draw cases one by one and write a page about them.

    What the page needs of a case waits in a temporary folder beside the results,
    so that a long batch takes no more memory than a short one.

    Parameters
    ----------
    folder : Path
        Where the label maps lie; pictures and page are written there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._cases: list[PageCase] = []
        self._num_bytes = 0
        self._waiting = tempfile.TemporaryDirectory(prefix=".partial-report-", dir=folder)

    def __enter__(self) -> "ReportWriter":
        """Give the writer itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Remove the temporary folder."""
        self._waiting.cleanup()

    def add(
        self,
        entry: dict[str, Any],
        scan_path: Path,
        label_path: Path,
        *,
        organs: Collection[str] | None = None,
    ) -> Path:
        """Draw one case and remember it for the page.

        Parameters
        ----------
        entry : dict
            The case's entry in ``run.json``. Organ volumes are measured where it
            has none.
        scan_path, label_path : Path
            Its scan and label map.
        organs : collection of str, optional
            Organs that were asked for; others are told of only where they are found.

        Returns
        -------
        Path
            The picture, a PNG file beside the label map.

        Raises
        ------
        InputError
            If a file cannot be read, or the two do not lie on the same grid.
        OutputError
            If the picture cannot be written.
        """
        scan, labels = read_pair(scan_path, label_path)
        volumes_ml = entry.get("volumes_ml") or organ_volumes_ml(labels, scan.geometry)
        if organs is not None:
            volumes_ml = {name: ml for name, ml in volumes_ml.items() if ml or name in organs}
        entry = entry | {"volumes_ml": volumes_ml}
        copy = viewing_copy(scan, labels)
        title = as_text(entry["name"])
        warnings = [as_text(str(warning)) for warning in entry.get("warnings") or []]
        picture = draw_picture(scan, labels, copy, volumes_ml, title=title, warnings=warnings)
        picture_path = self.folder / f"{entry['name']}.png"
        with atomic_path(picture_path) as partial:
            picture.save(partial, format="PNG")
        small = Path(self._waiting.name) / f"{len(self._cases)}.jpg"
        picture.thumbnail((PAGE_PICTURE_PIXELS, PAGE_PICTURE_PIXELS))
        picture.save(small, quality=JPEG_QUALITY)
        viewer = self._keep(copy)
        self._cases.append(
            PageCase(entry=entry, picture=small if self._fits(small) else None, viewer=viewer)
        )
        return picture_path

    def add_undrawn(self, entry: dict[str, Any]) -> None:
        """Remember a case that failed, or whose label map could not be drawn.

        Parameters
        ----------
        entry : dict
            The case's entry in ``run.json``.
        """
        self._cases.append(PageCase(entry=entry))

    def write(self, record: dict[str, Any]) -> Path:
        """Write the page about all cases so far.

        Parameters
        ----------
        record : dict
            What ``run.json`` says about the batch; may be empty.

        Returns
        -------
        Path
            The page.

        Raises
        ------
        OutputError
            If it cannot be written.
        """
        path = self.folder / REPORT_NAME
        with (
            atomic_path(path) as partial,
            # Names of files may hold bytes that are no text.
            partial.open("w", encoding="utf-8", errors="backslashreplace") as page,
        ):
            # A copy: a thread that ends the batch writes while another may still draw.
            page.writelines(page_parts(record, list(self._cases)))
        return path

    def _keep(self, copy: ViewingCopy) -> ViewerFiles | None:
        """Lay the viewer's copy aside, if the page has room for it."""
        stem = Path(self._waiting.name) / str(len(self._cases))
        scan, labels = stem.with_suffix(".scan.nii.gz"), stem.with_suffix(".labels.nii.gz")
        write_volume(copy.gray, scan)
        write_volume(_around_organs(copy.labels), labels)
        if not self._fits(scan, labels):
            scan.unlink()
            labels.unlink()
            return None
        return ViewerFiles(scan=scan, labels=labels, center=center_of(copy.labels.array))

    def _fits(self, *files: Path) -> bool:
        """Count files into the page's size, or leave them out."""
        num_bytes = sum(4 * -(-file.stat().st_size // 3) for file in files)
        if self._num_bytes + num_bytes > MOST_PAGE_BYTES:
            return False
        self._num_bytes += num_bytes
        return True


def _around_organs(labels: Volume) -> Volume:
    """Cut out the organs, so that the viewer fills its screen with their surfaces."""
    if not labels.array.any():
        return labels
    geometry = labels.geometry
    return crop(labels, bounding_box(labels.array > 0, geometry.spacing_mm, AROUND_ORGANS_MM))


def center_of(labels: LabelVolume) -> tuple[float, float, float]:
    """Find the middle of all organs, the way the viewer counts.

    Parameters
    ----------
    labels : (Z, Y, X) array of uint8
        In canonical orientation, which counts from the patient's right, front and feet.

    Returns
    -------
    (x, y, z) floats
        Shares of the grid from left, back and feet; its middle where there are no organs.
    """
    found = np.argwhere(labels)
    if not len(found):
        return (0.5, 0.5, 0.5)
    z, y, x = ((found.mean(axis=0) + 0.5) / labels.shape).round(4).tolist()
    return (round(1 - x, 4), round(1 - y, 4), z)
