"""Whole bodies as label maps of 117 tissues: read, translated, and made taller."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from app.errors import UnreadableScanError
from app.imaging.geometry import BoolVolume, LabelVolume, SpacingZYX
from app.imaging.io import read_scan
from app.synthesis.fit import Points, compact_landmarks, fit_affine, fit_bend, warp_labels
from app.synthesis.tissues import Tissue

SPACING_MM: SpacingZYX = (1.5, 1.5, 1.5)
"""Spacing of the whole bodies and of the anatomies, in mm."""

ORGAN_NAMES = {
    "liver": Tissue.LIVER,
    "kidney_right": Tissue.RIGHT_KIDNEY,
    "spleen": Tissue.SPLEEN,
    "pancreas": Tissue.PANCREAS,
    "aorta": Tissue.AORTA,
    "inferior_vena_cava": Tissue.INFERIOR_VENA_CAVA,
    "adrenal_gland_right": Tissue.RIGHT_ADRENAL,
    "adrenal_gland_left": Tissue.LEFT_ADRENAL,
    "gallbladder": Tissue.GALLBLADDER,
    "esophagus": Tissue.ESOPHAGUS,
    "stomach": Tissue.STOMACH,
    "duodenum": Tissue.DUODENUM,
    "kidney_left": Tissue.LEFT_KIDNEY,
    "kidney_cyst_left": Tissue.LEFT_KIDNEY,
    "kidney_cyst_right": Tissue.RIGHT_KIDNEY,
}
"""What the whole bodies call the organs; a cyst belongs to its kidney."""


@dataclass(frozen=True, slots=True)
class WholeBody:
    """A label map of 117 tissues and what its values mean.

    Parameters
    ----------
    name : str
        Case name.
    labels : (Z, Y, X) array of uint8
        Values as in ``ids``, at 1.5 mm, LPS.
    ids : dict from str to int
        Tissue name to value.
    seam : int, optional
        First slice that was borrowed from another body.
    """

    name: str
    labels: LabelVolume
    ids: dict[str, int]
    seam: int | None = None

    def lookup(self, values: dict[str, Tissue]) -> LabelVolume:
        """Translate the labels whose names start with a key; others become 0."""
        table = np.zeros(256, np.uint8)
        for name, value in self.ids.items():
            for prefix, tissue in values.items():
                if name.startswith(prefix):
                    table[value] = tissue
        return table[self.labels]

    def mask(self, prefixes: tuple[str, ...]) -> BoolVolume:
        """Mark the labels whose names start with one of the prefixes."""
        table = np.zeros(256, bool)
        for name, value in self.ids.items():
            table[value] = name.startswith(prefixes)
        marked: BoolVolume = table[self.labels]
        return marked


def read_bodies(folder: Path) -> dict[str, WholeBody]:
    """Read every ``*_tissues.nii.gz`` of a folder with its ``tissues.json``.

    Raises
    ------
    UnreadableScanError
        If the folder lacks the table or holds no body.
    """
    # A Mac leaves "._X.nii.gz" beside those that it copies.
    table, files = folder / "tissues.json", sorted(folder.glob("[!.]*_tissues.nii.gz"))
    if not table.exists() or not files:
        raise UnreadableScanError(
            f"{folder}: {len(files)} *_tissues.nii.gz found, "
            "at least one expected, and tissues.json beside it"
        )
    ids: dict[str, int] = json.loads(table.read_text())
    bodies = {}
    for file in files:
        labels, _ = read_scan(file, as_labels=True)
        name = file.name.removesuffix("_tissues.nii.gz")
        bodies[name] = WholeBody(name, np.ascontiguousarray(labels.array, np.uint8), ids)
    return bodies


def num_vertebrae(body: WholeBody) -> int:
    """Count the vertebrae in view: a measure of how much of the trunk a body shows."""
    return len(np.unique(body.labels[body.mask(("vertebrae_",))]))


def extend_upwards(body: WholeBody, donor: WholeBody) -> WholeBody:
    """Put a donor's chest on a body whose scan ends too low.

    Parameters
    ----------
    body, donor : WholeBody
        The donor must hold the upper part; both share ``ids``.

    Returns
    -------
    WholeBody
        ``body`` with the donor's slices above it, warped to meet it.
    """
    points_from, points_to = _matching_points(body, donor)
    warp = fit_affine(points_from, points_to, stiffness=2.0)
    warp = fit_bend(warp, points_from, points_to, reach_mm=60.0, smoothing=0.3)
    height = body.labels.shape[0]
    # The last slices of a scan are half cut: leave them to the donor.
    keep = height - 3
    top = np.array([[donor.labels.shape[0] * SPACING_MM[0], 0.0, 0.0]])
    end = round(float(warp.affine_inverse(top)[0, 0]) / SPACING_MM[0])
    if end <= height:
        return body
    chest = warp_labels(
        donor.labels,
        SPACING_MM,
        warp,
        start_mm=(keep * SPACING_MM[0], 0.0, 0.0),
        shape=(end - keep, *body.labels.shape[1:]),
        new_spacing_mm=SPACING_MM,
    )
    return WholeBody(body.name, np.concatenate([body.labels[:keep], chest]), body.ids, keep)


def _matching_points(body: WholeBody, donor: WholeBody) -> tuple[Points, Points]:
    """Pair landmarks of organs, vertebrae and ribs of two bodies."""
    here = compact_landmarks(body.lookup(ORGAN_NAMES), SPACING_MM)
    there = compact_landmarks(donor.lookup(ORGAN_NAMES), SPACING_MM)
    pairs = [(here[key], there[key]) for key in sorted(here.keys() & there.keys())]
    top = body.labels.shape[0] - 1
    boxes_here = ndimage.find_objects(body.labels, max_label=255)
    boxes_there = ndimage.find_objects(donor.labels, max_label=255)
    for name, value in body.ids.items():
        box_here, box_there = boxes_here[value - 1], boxes_there[value - 1]
        whole = box_here is not None and box_there is not None and box_here[0].stop <= top
        if whole and name.startswith(("vertebrae_", "rib_")):
            pairs.append(
                tuple(
                    np.argwhere(labels == value).mean(0) * SPACING_MM
                    for labels in (body.labels, donor.labels)
                )
            )
    points_from, points_to = (np.array(side) for side in zip(*pairs, strict=True))
    return points_from, points_to
