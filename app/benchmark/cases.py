"""The scans that are timed: phantoms of the published sizes, or a folder of real ones."""

import hashlib
import json
import logging
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import app.synthesis
from app.errors import CascadeError, UsageError
from app.imaging.image_files import case_name, image_files
from app.imaging.io import read_scan, write_scan
from app.imaging.orientation import from_lps
from app.imaging.volume import Volume
from app.manifest import sha256_of

logger = logging.getLogger(__name__)

SEED = 20240

PHANTOM_RECORD_NAME = "phantom.json"
"""Beside a phantom: what it was made from, and the checksums of its files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PhantomCase:
    """Size of one phantom scan.

    Parameters
    ----------
    name : str
        How the case is called on the command line and in the report.
    shape : (z, y, x) ints
        Voxels along each axis.
    spacing_mm : (z, y, x) floats
        Voxel spacing, in mm.
    """

    name: str
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]

    @property
    def size_xyz(self) -> str:
        """Voxels along x, y and z, as radiologists and ``synthesize`` write them."""
        return "x".join(str(num) for num in reversed(self.shape))

    @property
    def spacing_xyz(self) -> str:
        """Spacing along x, y and z, in mm."""
        return "x".join(f"{step:g}" for step in reversed(self.spacing_mm))


# The fewest slices of the challenge's scans, their median, the size its time is quoted for, and
# the most.
CASES = (
    PhantomCase(name="thick51", shape=(51, 512, 512), spacing_mm=(5.0, 0.8, 0.8)),
    PhantomCase(name="median160", shape=(160, 512, 512), spacing_mm=(2.5, 0.8, 0.8)),
    PhantomCase(name="headline597", shape=(597, 512, 512), spacing_mm=(1.25, 0.898, 0.898)),
    PhantomCase(name="long1338", shape=(1338, 512, 512), spacing_mm=(1.0, 0.898, 0.898)),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """One scan on disk, ready to be segmented.

    Parameters
    ----------
    name : str
        Name of the case.
    folder : Path
        Holds the scan and nothing else that ``predict`` would read.
    truth : Path or None
        Its true label map, where there is one.
    shape, spacing_mm : (z, y, x)
        Voxels, and their spacing in mm, as stored.
    sha256 : str
        Of the scan's file, in hexadecimal.
    """

    name: str
    folder: Path
    truth: Path | None
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    sha256: str


def pick_cases(names: Sequence[str]) -> list[PhantomCase]:
    """Pick phantom cases by name.

    Raises
    ------
    UsageError
        If a name is not known.
    """
    known = {case.name: case for case in CASES}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise UsageError(f"--cases {','.join(unknown)}: not known; choose from {', '.join(known)}")
    return [known[name] for name in names]


def make_phantom(case: PhantomCase, folder: Path) -> Scan:
    """Make the scan of a case, unless an earlier run left the very same.

    An earlier one is of use if it was made with the same size, spacing and seed by the same
    :mod:`app.synthesis`, and if neither of its files has changed since.

    Parameters
    ----------
    case : PhantomCase
        Which scan.
    folder : Path
        Where phantoms are kept; each case has a folder of its own in it.

    Returns
    -------
    Scan
        With its true label map.

    Raises
    ------
    CascadeError
        If the scan cannot be made.
    """
    scans, labels = folder / case.name / "scans", folder / case.name / "labels"
    scan, truth = scans / f"{case.name}_0000.nii.gz", labels / f"{case.name}.nii.gz"
    record_path = folder / case.name / PHANTOM_RECORD_NAME
    parameters = {
        "size": case.size_xyz,
        "spacing_mm": case.spacing_xyz,
        "seed": SEED,
        "synthesis_sha256": synthesis_sha256(),
    }
    # Without reading them where the record alone tells that they are of no use.
    recorded = _read_record(record_path)
    if not parameters.items() <= recorded.items() or recorded != parameters | _files(scan, truth):
        record_path.unlink(missing_ok=True)
        for target in (scans, labels):
            target.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "app", "synthesize", "--size", case.size_xyz]
        command += ["--spacing", case.spacing_xyz, "--seed", str(SEED), "--output", str(scan)]
        command += ["--labels", str(truth)]
        finished = subprocess.run(command, check=False, stdout=subprocess.DEVNULL)
        if finished.returncode != 0:
            raise CascadeError(f"{scan}: the phantom could not be made (see above)")
        recorded = parameters | _files(scan, truth)
        record_path.write_text(json.dumps(recorded, indent=1) + "\n")
    return Scan(
        name=case.name,
        folder=scans,
        truth=truth,
        shape=case.shape,
        spacing_mm=case.spacing_mm,
        sha256=str(recorded["scan_sha256"]),
    )


def synthesis_sha256() -> str:
    """Give one checksum of all code that phantoms are made by: the whole of ``app.synthesis``."""
    digest = hashlib.sha256()
    for folder in map(Path, app.synthesis.__path__):
        for path in sorted(folder.rglob("*.py")):
            text = path.read_bytes()
            digest.update(f"{path.relative_to(folder).as_posix()} {len(text)}\n".encode() + text)
    return digest.hexdigest()


def lay_out(name: str, source: Path, truth: Path | None, folder: Path) -> Scan:
    """Lay a scan out for every system alike: one NIfTI file, alone in a folder.

    Not every system reads every format, and a header or a link whose voxels lie elsewhere would
    lead nowhere from inside a container. The grid is the scan's own; voxels are HU in int16.

    Parameters
    ----------
    name : str
        Name of the case; any that a file may have.
    source : Path
        As for :func:`app.imaging.io.read_scan`.
    truth : Path or None
        Its true label map, where there is one.
    folder : Path
        Where the folder of the scan is made. Names of folders are ours, since in those some
        characters have a meaning of their own, such as the colon in Docker's ``--volume``.

    Returns
    -------
    Scan

    Raises
    ------
    InputError
        If it is no scan.
    OutputError
        If the copy cannot be written.
    """
    volume, found = read_scan(source)
    for note in found.notes:
        logger.warning("%s: %s", source, note)
    geometry = found.header.geometry
    alone = folder / "scans"
    alone.mkdir(parents=True)
    path = alone / f"{name}_0000.nii.gz"
    write_scan(Volume(from_lps(volume.array, found.orientation), geometry), path)
    return Scan(
        name=name,
        folder=alone,
        truth=truth,
        shape=geometry.shape,
        spacing_mm=geometry.spacing_mm,
        sha256=sha256_of(path),
    )


def find_truths(references: Path) -> dict[str, Path]:
    """Find the label maps of a folder.

    Parameters
    ----------
    references : Path
        ``X.nii.gz``, or another type, for the scan ``X_0000.nii.gz``.

    Returns
    -------
    dict of str to Path
        By name of the case.

    Raises
    ------
    UsageError
        If there is no such folder, or two label maps are of one name.
    """
    if not references.is_dir():
        raise UsageError(f"--references {references}: no such folder")
    truths: dict[str, Path] = {}
    for path in image_files(references):
        name = case_name(path)
        if name in truths:
            raise UsageError(
                f"--references {references}: {truths[name].name} and {path.name} are both of the "
                f"scan {name}; keep one of them"
            )
        truths[name] = path
    return truths


def _files(scan: Path, truth: Path) -> dict[str, str]:
    """Give the checksums of a phantom's files; empty if one is missing."""
    if not scan.is_file() or not truth.is_file():
        return {}
    return {"scan_sha256": sha256_of(scan), "labels_sha256": sha256_of(truth)}


def _read_record(path: Path) -> dict[str, Any]:
    """Read what a phantom was made from; empty if that is not told."""
    try:
        record = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}
