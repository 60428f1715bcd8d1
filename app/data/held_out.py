"""Whole synthetic scans of patients held out from training: what the weights are scored on.

Each scan has slice spacing and field of view of the patient's real scan, as the anatomies'
manifest tells them, and contents, disease and appearance that depend on the patient's name and a
seed alone.
"""

import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from app.data.splits import split_anatomies
from app.errors import UsageError
from app.imaging.geometry import LabelVolume, ScanVolume, SpacingZYX
from app.imaging.resample import resample_nearest, resampled_shape
from app.synthesis.appearance import scan
from app.synthesis.bank import BankedBody, read_body
from app.synthesis.files import parse_orientation, store, write_phantom
from app.synthesis.spine import draw_aged_appearance
from app.synthesis.tissues import ORGAN_OF_TISSUE, Tissue
from app.synthesis.variation import unlabel, vary


@dataclass(frozen=True, slots=True)
class FieldOfView:
    """What of a patient a real scan showed.

    Parameters
    ----------
    spacing_mm : (z, y, x) floats
        Its spacing, in mm.
    before_mm, after_mm : (z, y, x) floats
        How far it reached beyond the organ map's start and stop, in mm.
    """

    spacing_mm: SpacingZYX
    before_mm: SpacingZYX
    after_mm: SpacingZYX


def read_fields_of_view(manifest: Path) -> dict[str, FieldOfView]:
    """Read the field of view of every case of the anatomies' manifest, by name."""
    fields = {}
    for entry in json.loads(manifest.read_text()):
        step, start, stop, size = (
            np.array(entry[key][::-1])
            for key in ("scan_spacing_mm_xyz", "crop_start_xyz", "crop_stop_xyz", "scan_shape_xyz")
        )
        fields[Path(entry["file"]).stem] = FieldOfView(
            tuple(step.tolist()),
            tuple((start * step).tolist()),
            tuple(((size - stop) * step).tolist()),
        )
    return fields


def _cut(body: BankedBody, view: FieldOfView) -> LabelVolume:
    """Cut what the scanner saw out of a body; along the slices no more than there is."""
    step = np.array(body.spacing_mm)
    start = np.rint(body.organ_box.start - np.array(view.before_mm) / step).astype(int)
    stop = np.rint(body.organ_box.stop + np.array(view.after_mm) / step).astype(int)
    size = np.array(body.tissues.shape)
    start[0], stop[0] = max(start[0], 0), min(stop[0], size[0])
    inside = tuple(
        slice(first, last)
        for first, last in zip(np.clip(start, 0, size), np.clip(stop, 0, size), strict=True)
    )
    missing = zip(np.maximum(-start, 0), np.maximum(stop - size, 0), strict=True)
    return np.pad(body.tissues[inside], list(missing), constant_values=Tissue.AIR)


def scan_patient(
    body: BankedBody, view: FieldOfView, rng: np.random.Generator
) -> tuple[ScanVolume, LabelVolume]:
    """Scan a body as its patient once was.

    Parameters
    ----------
    body : BankedBody
        The patient.
    view : FieldOfView
        Grid and reach of the scan.
    rng : numpy Generator
        Source of contents, disease and appearance.

    Returns
    -------
    hu : (Z, Y, X) array of int16
        At ``view.spacing_mm``, canonical orientation.
    labels : (Z, Y, X) array of uint8
        Organ values.
    """
    tissues = _cut(body, view)
    labels = ORGAN_OF_TISSUE[tissues]
    unlabel(labels, tissues, vary(tissues, body.spacing_mm, rng))
    step_z, step_y, step_x = view.spacing_mm
    # Slices stay as thin as the body's, so that thick ones are averaged by the scanner.
    thin: SpacingZYX = (min(step_z, body.spacing_mm[0]), step_y, step_x)
    fine = resample_nearest(tissues, body.spacing_mm, thin)
    appearance = replace(draw_aged_appearance(rng), slice_mm=step_z, pixel_mm=0.0)
    hu, scanned_mm = scan(fine, thin, appearance, rng)
    shape = resampled_shape(fine.shape, thin, scanned_mm)
    return np.rint(hu).astype(np.int16), resample_nearest(
        labels, body.spacing_mm, scanned_mm, shape
    )


def write_held_out(
    bank: Path,
    manifest: Path,
    output: Path,
    *,
    patients: Sequence[str] | None = None,
    limit: int | None = None,
    seed: int = 0,
) -> Iterator[Path]:
    """Write scan and label map of every held-out patient that a bank holds.

    Parameters
    ----------
    bank : Path
        Folder of bodies, see :mod:`app.synthesis.bank`.
    manifest : Path
        The anatomies' ``manifest.json``.
    output : Path
        Gets ``images/<name>_0000.nii.gz`` and ``labels/<name>.nii.gz``.
    patients : sequence of str, optional
        Names of others, drawn alike, in their place.
    limit : int, optional
        Only so many, spread evenly over the patients.
    seed : int
        Another seed gives the same patients another appearance.

    Yields
    ------
    Path
        Each scan, as soon as both files are there.

    Raises
    ------
    UsageError
        If the bank holds none of the patients.
    """
    if patients is None:
        patients = split_anatomies(manifest).held_out
    names = [name for name in patients if (bank / f"{name}_0.npz").exists()]
    if not names:
        raise UsageError(f"{bank}: holds no held-out patient; build the whole bank first")
    if limit is not None and limit < len(names):
        names = [names[index * len(names) // limit] for index in range(limit)]
    views, orientation = read_fields_of_view(manifest), parse_orientation("LPS")
    for name in names:
        rng = np.random.default_rng([seed, 0xC7, zlib.crc32(name.encode())])
        view = views[name]
        hu, labels = scan_patient(read_body(bank / f"{name}_0.npz"), view, rng)
        target = output / "images" / f"{name}_0000.nii.gz"
        write_phantom(
            store(labels, view.spacing_mm, orientation), output / "labels" / f"{name}.nii.gz"
        )
        write_phantom(store(hu, view.spacing_mm, orientation), target)
        yield target
