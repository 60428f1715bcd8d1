"""The scans that are timed: phantoms of the published sizes, or a folder of real ones."""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from app.errors import CascadeError, UsageError
from app.imaging.io import SCAN_SUFFIXES, peek

SEED = 20240


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
    """

    name: str
    folder: Path
    truth: Path | None
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]


def pick_cases(names: Sequence[str], cases: Sequence[PhantomCase] = CASES) -> list[PhantomCase]:
    """Pick phantom cases by name.

    Raises
    ------
    UsageError
        If a name is not known.
    """
    known = {case.name: case for case in cases}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise UsageError(f"--cases {','.join(unknown)}: not known; choose from {', '.join(known)}")
    return [known[name] for name in names]


def make_phantom(case: PhantomCase, folder: Path) -> Scan:
    """Make the scan of a case, unless an earlier run left it.

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
    # The scan is written last.
    if not scan.exists() or not truth.exists():
        for target in (scans, labels):
            target.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "app", "synthesize", "--size", case.size_xyz]
        command += ["--spacing", case.spacing_xyz, "--seed", str(SEED), "--output", str(scan)]
        command += ["--labels", str(truth)]
        finished = subprocess.run(command, check=False, stdout=subprocess.DEVNULL)
        if finished.returncode != 0:
            raise CascadeError(f"{scan}: the phantom could not be made (see above)")
    return Scan(
        name=case.name, folder=scans, truth=truth, shape=case.shape, spacing_mm=case.spacing_mm
    )


def find_scans(source: Path, references: Path | None, scratch: Path) -> list[Scan]:
    """List the scans of a folder, each in a folder of its own.

    Parameters
    ----------
    source : Path
        Folder of scans.
    references : Path or None
        Folder with a label map for some or all of them: ``X.nii.gz`` for ``X_0000.nii.gz``.
    scratch : Path
        Where the folders with one scan each are made.

    Returns
    -------
    list of Scan
        By name, at least one.

    Raises
    ------
    UsageError
        If a folder is missing or holds no scan, or two of one name.
    InputError
        If a file is no scan.
    """
    for flag, folder in (("--input", source), ("--references", references)):
        if folder is not None and not folder.is_dir():
            raise UsageError(f"{flag} {folder}: no such folder")
    truths = {_name_of(path): path for path in _images_in(references)} if references else {}
    scans = []
    for path in _images_in(source):
        name, geometry = _name_of(path), peek(path).geometry
        alone = scratch / name / "scans"
        if alone.exists():
            raise UsageError(f"--input {source}: two scans of the name {name}; keep one of them")
        alone.mkdir(parents=True)
        shutil.copy(path, alone)  # a link would lead nowhere from inside a container
        scans.append(
            Scan(
                name=name,
                folder=alone,
                truth=truths.get(name),
                shape=geometry.shape,
                spacing_mm=geometry.spacing_mm,
            )
        )
    if not scans:
        raise UsageError(
            f"--input {source}: no scans found; expected files ending in {', '.join(SCAN_SUFFIXES)}"
        )
    return scans


def _images_in(folder: Path) -> list[Path]:
    return [
        path
        for path in sorted(folder.iterdir())
        if path.name.lower().endswith(SCAN_SUFFIXES) and not path.name.startswith(".")
    ]


def _name_of(path: Path) -> str:
    suffix = next(end for end in SCAN_SUFFIXES if path.name.lower().endswith(end))
    return path.name[: -len(suffix)].removesuffix("_0000")
