"""A folder of complete bodies, built once, from which training draws.

Each body is one compressed ``.npz``:

- ``tissues``: (Z, Y, X) array of uint8, values of :class:`app.synthesis.tissues.Tissue`
- ``spacing_mm``: (3,) array of float64, (z, y, x)
- ``organ_box``: (2, 3) array of int64, start and stop of the region the given organ
  map covered; beyond it everything, organs included, comes from the template
- ``name``, ``template``: strings
"""

import zlib
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from app.errors import UnreadableScanError
from app.imaging.geometry import Box, LabelVolume, SpacingZYX
from app.imaging.image_files import images_by_name, stem_of
from app.imaging.label_maps import read_label_map
from app.synthesis.body import Body, complete_body
from app.synthesis.template import Template, build_templates
from app.synthesis.whole_body import SPACING_MM

BANK_SPACING_MM: SpacingZYX = (2.0, 1.5, 1.5)
"""Spacing of a bank's bodies, (z, y, x), in mm: at least as fine as that of either phase."""

_SPACING_TOLERANCE_MM = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class BankedBody:
    """A body as read from a bank.

    Parameters
    ----------
    name : str
        Name of the anatomy it was built around.
    tissues : (Z, Y, X) array of uint8
        Tissue map, LPS.
    spacing_mm : (z, y, x) floats
        Its spacing, in mm.
    organ_box : Box
        The region that the given organ map covered.
    """

    name: str
    tissues: LabelVolume
    spacing_mm: SpacingZYX
    organ_box: Box


def read_body(file: Path) -> BankedBody:
    """Read one body of a bank.

    Parameters
    ----------
    file : Path
        An ``.npz`` written by :func:`build_bank`.

    Returns
    -------
    BankedBody
    """
    with np.load(file) as content:
        z, y, x = content["spacing_mm"].tolist()
        return BankedBody(
            name=str(content["name"]),
            tissues=content["tissues"],
            spacing_mm=(z, y, x),
            organ_box=Box.between(*content["organ_box"].tolist()),
        )


def read_anatomy(file: Path) -> LabelVolume:
    """Read one organ map and check that it is one.

    Returns
    -------
    (Z, Y, X) array of uint8
        Values 0 to 13 at 1.5 mm, turned to LPS.

    Raises
    ------
    InputError
        If the file cannot be read, or spacing or values are not those of an anatomy.
    """
    label_map = read_label_map(file, organs_only=True)
    spacing_mm = label_map.source.geometry.spacing_mm
    if not np.allclose(spacing_mm, SPACING_MM, rtol=0, atol=_SPACING_TOLERANCE_MM):
        raise UnreadableScanError(
            f"{file}: spacing {spacing_mm} mm (z, y, x) found, 1.5 mm expected; resample it"
        )
    return np.ascontiguousarray(label_map.in_lps)


def _list_anatomies(folder: Path, limit: int | None) -> list[Path]:
    """List the organ maps of a folder; only so many, spread evenly, if there is a limit."""
    files = list(images_by_name(folder, "--anatomies").values())
    if not files:
        raise UnreadableScanError(f"{folder}: no organ maps found in it")
    if limit is not None and limit < len(files):
        files = [files[index * len(files) // limit] for index in range(limit)]
    return files


def _target_of(anatomy: Path, output: Path, variant: int) -> Path:
    return output / f"{stem_of(anatomy)}_{variant}.npz"


def organ_box(body: Body, organs: LabelVolume) -> Box:
    """Find the voxels of a body that the organ map it was built around covered."""
    start = np.rint(np.divide(body.offset_mm, body.spacing_mm))
    extent = np.multiply(organs.shape, SPACING_MM)
    stop = start + np.rint(extent / np.asarray(body.spacing_mm))
    return Box.between(
        np.clip(start, 0, body.tissues.shape).tolist(),
        np.clip(stop, 0, body.tissues.shape).tolist(),
    )


def write_variant(
    anatomy: Path,
    templates: tuple[Template, ...],
    output: Path,
    *,
    spacing_mm: SpacingZYX,
    seed: int,
    variant: int,
) -> Path:
    """Build one body around an anatomy and write it.

    The random numbers depend on the anatomy's name, the seed and the variant alone,
    so a bank does not change with the order or the number of its bodies.

    Returns
    -------
    Path
        The ``.npz`` written, ``<anatomy>_<variant>.npz``.
    """
    name = stem_of(anatomy)
    rng = np.random.default_rng([seed, variant, zlib.crc32(name.encode())])
    template = templates[int(rng.integers(len(templates)))]
    organs = read_anatomy(anatomy)
    body = complete_body(organs, template, rng, spacing_mm=spacing_mm)
    box = organ_box(body, organs)
    target = _target_of(anatomy, output, variant)
    # Written under another name first: who lists the bank sees whole bodies only.
    partial = target.with_suffix(".part")
    with partial.open("wb") as file:
        np.savez_compressed(
            file,
            tissues=body.tissues,
            spacing_mm=np.asarray(spacing_mm),
            organ_box=np.array([box.start, box.stop]),
            name=name,
            template=template.name,
        )
    partial.replace(target)
    return target


_worker_templates: tuple[Template, ...] = ()


def _start_worker(templates: tuple[Template, ...]) -> None:
    """Keep the templates in the process, so that they are not sent with each task."""
    global _worker_templates
    _worker_templates = templates
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)


def _work(task: tuple[Path, Path, SpacingZYX, int, int]) -> Path:
    anatomy, output, spacing_mm, seed, variant = task
    return write_variant(
        anatomy, _worker_templates, output, spacing_mm=spacing_mm, seed=seed, variant=variant
    )


def build_bank(
    anatomies: Path,
    bodies: Path,
    output: Path,
    *,
    spacing_mm: SpacingZYX = BANK_SPACING_MM,
    seed: int = 0,
    variants: int = 1,
    limit: int | None = None,
    processes: int = 1,
    overwrite: bool = False,
) -> Iterator[Path]:
    """Build bodies around every anatomy of a folder.

    Parameters
    ----------
    anatomies : Path
        Folder of organ maps at 1.5 mm, of any type and orientation.
    bodies : Path
        Folder of whole bodies, see :func:`app.synthesis.template.build_templates`.
    output : Path
        Folder for the bank; made if it is absent.
    spacing_mm : (z, y, x) floats
        Spacing of the bodies, in mm.
    seed : int
        The same seed gives the same bank.
    variants : int
        Bodies for each anatomy.
    limit : int, optional
        Only so many anatomies, spread evenly over the folder.
    processes : int
        How many bodies are built at a time.
    overwrite : bool
        Build again what is already there; by default it is left as it is.

    Yields
    ------
    Path
        Each file, as soon as it is there.

    Raises
    ------
    UsageError
        If the folder is missing, or two anatomies have one name.
    UnreadableScanError
        If it holds no anatomy.
    """
    files = _list_anatomies(anatomies, limit)
    output.mkdir(parents=True, exist_ok=True)
    templates = build_templates(bodies)
    tasks = []
    for variant in range(variants):
        for file in files:
            target = _target_of(file, output, variant)
            if target.exists() and not overwrite:
                yield target
            else:
                tasks.append((file, output, spacing_mm, seed, variant))
    if processes <= 1:
        _start_worker(templates)
        yield from map(_work, tasks)
        return
    with ProcessPoolExecutor(processes, initializer=_start_worker, initargs=(templates,)) as pool:
        yield from pool.map(_work, tasks)
