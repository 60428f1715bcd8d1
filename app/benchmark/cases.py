"""The phantom scans that are timed."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from app.errors import CascadeError

SEED = 20240


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkCase:
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


# 160 slices is the median of the challenge's scans, 597 the size its time is quoted for, and 1338
# its longest scan.
CASES = (
    BenchmarkCase(name="median160", shape=(160, 512, 512), spacing_mm=(2.5, 0.8, 0.8)),
    BenchmarkCase(name="headline597", shape=(597, 512, 512), spacing_mm=(1.25, 0.898, 0.898)),
    BenchmarkCase(name="long1338", shape=(1338, 512, 512), spacing_mm=(1.0, 0.898, 0.898)),
)


def make_phantom(case: BenchmarkCase, folder: Path) -> Path:
    """Make the scan of a case, unless an earlier run left it.

    Parameters
    ----------
    case : BenchmarkCase
        Which scan.
    folder : Path
        Where phantoms are kept; each case has a folder of its own in it.

    Returns
    -------
    Path
        Folder that holds the scan and nothing else that ``predict`` would read.

    Raises
    ------
    CascadeError
        If the scan cannot be made.
    """
    scans, labels = folder / case.name / "scans", folder / case.name / "labels"
    scan = scans / f"{case.name}_0000.nii.gz"
    if scan.exists():
        return scans
    for target in (scans, labels):
        target.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "app", "synthesize", "--size", case.size_xyz]
    command += ["--spacing", case.spacing_xyz, "--seed", str(SEED), "--output", str(scan)]
    command += ["--labels", str(labels / f"{case.name}.nii.gz")]
    finished = subprocess.run(command, check=False)
    if finished.returncode != 0:
        raise CascadeError(f"{scan}: the phantom could not be made (see above)")
    return scans
