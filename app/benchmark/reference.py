"""The published pipeline, plainly built with torch and MONAI, to measure this system against.

``python -m app.benchmark.reference --input SCANS --output LABELS`` is a process of its own:
nothing in it is shared with the runtime but the checkpoints and their configuration.

Kept as published: eager float32 networks, one patch at a time, every patch of the box run;
MONAI's transforms with their own defaults, so that resampling computes in float64; a box
without margin; argmax on phase two's grid, the largest component of each organ, and labels
taken back to the scan by nearest neighbor.

Where it departs from the paper, and why:

- Intensities: the checkpoints' fixed HU window in place of the scan's 5th and 95th percentiles
  and a z-score. Weights only work on what they were trained on. It saves the reference two
  sorts of all voxels.
- Phase one: resampled to the checkpoint's spacing and covered with patches of its size, in
  place of one resize to 128³, for the same reason. A long scan takes two or three patches.
- Spacing, patch size and overlap of phase two are the checkpoint's, not 2 x 1.5 x 1.5 mm, 96³
  and 5 %: both systems run the same networks on equally many voxels.
- Scans are turned to LPS and back. The published pipeline mirrors all others.
- A scan without an abdomen gives an empty label map, not a crash.
- Phase one's mask is cleaned on its own coarse grid, by its largest component, and its box
  converted by the two affines. Published, this is done on the scan's grid, at tens of bytes a
  voxel, so the reference is cheaper here than what it stands for.
- The networks are those of ``app.models``: the published layers, depthwise ones by torch's own
  convolution. With them comes numba, 0.4 s of the 5 s that the imports take.

What is reproduced is the two-phase method published for FLARE 2024 Task 2; see the README.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, cast

import nibabel as nib
import numpy as np
import numpy.typing as npt
import psutil
import torch
from monai.data import MetaTensor
from monai.inferers import sliding_window_inference
from monai.transforms import (
    Compose,
    Invert,
    Orientation,
    ScaleIntensityRange,
    Spacing,
    SpatialCrop,
    generate_spatial_bounding_box,
)
from safetensors import SafetensorError
from safetensors.torch import load_file
from scipy import ndimage
from torch import Tensor, nn

from app.config import PhaseConfig
from app.errors import CascadeError, UsageError, WeightsError
from app.manifest import CHECKPOINT_NAME, MANIFEST_NAME, Manifest
from app.models.build import build_network

RECORD_NAME = "run.json"
SUFFIX = ".nii.gz"
INPUT_LIMIT = 2.0
"""The checkpoints' intensity window becomes -2 ... 2, and what lies beyond a scan is air, -2."""

Box = tuple[list[int], list[int]]
"""First voxel inside and first voxel beyond, (x, y, z) as MONAI has it."""


@dataclass(frozen=True, slots=True)
class Phase:
    """A network and what it was trained with."""

    config: PhaseConfig
    network: nn.Module

    def input_transforms(self) -> list[Any]:
        """Give what turns a scan in LPS into the network's input."""
        low, high = self.config.window_hu
        return [
            Spacing(pixdim=self.config.spacing_mm[::-1], mode="bilinear"),
            ScaleIntensityRange(low, high, -INPUT_LIMIT, INPUT_LIMIT, clip=True),
        ]

    def label(self, volume: Tensor) -> npt.NDArray[np.uint8]:
        """Slide the network over (1, X, Y, Z) input and give the best class of each voxel."""
        logits = sliding_window_inference(
            volume[None],
            roi_size=self.config.patch_shape[::-1],
            sw_batch_size=1,
            predictor=self._run,
            overlap=self.config.overlap,
            cval=-INPUT_LIMIT,
        )
        return cast("Tensor", logits)[0].argmax(dim=0).to(torch.uint8).numpy()

    def _run(self, patch: Tensor) -> Tensor:
        """Turn MONAI's (N, 1, X, Y, Z) to the network's (N, 1, Z, Y, X) and back."""
        logits: Tensor = self.network(patch.permute(0, 1, 4, 3, 2).contiguous())
        return logits.permute(0, 1, 4, 3, 2)


def open_phase(folder: Path) -> Phase:
    """Build a network and load its checkpoint.

    Parameters
    ----------
    folder : Path
        ``weights/<phase>``.

    Raises
    ------
    WeightsError
        If manifest or checkpoint cannot be used.
    """
    try:
        config = Manifest.from_json((folder / MANIFEST_NAME).read_text(encoding="utf-8")).config
        network = build_network(config).eval()
        network.load_state_dict(load_file(folder / CHECKPOINT_NAME))
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        raise WeightsError(f"{folder}: no checkpoint of this network ({error})") from error
    return Phase(config, network)


@contextmanager
def timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Write down the wall time of what is done inside, in s."""
    started = time.perf_counter()
    yield
    seconds[name] = round(time.perf_counter() - started, 3)


def segment_scan(
    scan_path: Path, label_path: Path, locate: Phase, segment: Phase
) -> dict[str, float]:
    """Segment one scan.

    Parameters
    ----------
    scan_path, label_path : Path
        NIfTI files.
    locate, segment : Phase
        Phase one and phase two.

    Returns
    -------
    dict of str to float
        Wall time of each step, in s.
    """
    seconds: dict[str, float] = {}
    to_lps = Orientation(axcodes="LPS", labels=None)
    with timed(seconds, "read"):
        stored: Any = nib.load(scan_path)
        voxels = torch.from_numpy(np.asarray(stored.dataobj, np.float32))
        scan = cast("MetaTensor", to_lps(MetaTensor(voxels[None], affine=stored.affine)))
    with timed(seconds, "locate"):
        box = locate_box(scan, locate)
    labels = np.zeros(stored.shape, np.uint8)
    if box is not None:
        with timed(seconds, "segment"):
            crop = SpatialCrop(roi_start=box[0], roi_end=box[1])
            spacing, scale = segment.input_transforms()
            region = Compose([crop, spacing, scale])(scan)
            coarse = keep_largest_pieces(segment.label(region.as_tensor()))
        del scan
        with timed(seconds, "restore"):
            way_back = Invert(Compose([to_lps, crop, spacing]), nearest_interp=True)
            traced = MetaTensor(
                torch.from_numpy(coarse[None]),
                meta=region.meta,
                applied_operations=region.applied_operations,
            )
            labels = way_back(traced)[0].numpy().astype(np.uint8)
    with timed(seconds, "write"):
        nib.save(nib.Nifti1Image(labels, stored.affine), label_path)
    return seconds


def locate_box(scan: MetaTensor, phase: Phase) -> Box | None:
    """Find the box around the organs, in the scan's voxels; None if there are none."""
    coarse = Compose(phase.input_transforms())(scan)
    organs = keep_largest_pieces(phase.label(coarse.as_tensor()))
    if not organs.any():
        return None
    start, stop = generate_spatial_bounding_box(organs[None])
    # Faces of voxels, not their centers, bound the box; both grids lie along the same axes.
    to_scan = np.linalg.inv(scan.affine.numpy()) @ coarse.affine.numpy()
    low, high = (
        (to_scan @ np.append(np.subtract(corner, 0.5), 1.0))[:3] + 0.5 for corner in (start, stop)
    )
    size = np.array(scan.shape[1:])
    first = np.clip(np.floor(low.round(6)), 0, size - 1).astype(int)
    beyond = np.clip(np.ceil(high.round(6)), first + 1, size).astype(int)
    return first.tolist(), beyond.tolist()


def keep_largest_pieces(labels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Keep each label's largest connected component (connectivity 26)."""
    kept = np.zeros_like(labels)
    for value in np.unique(labels[labels > 0]):
        pieces, count = ndimage.label(labels == value, np.ones((3, 3, 3)))
        sizes = np.bincount(pieces.ravel(), minlength=count + 1)[1:]
        kept[pieces == 1 + int(sizes.argmax())] = value
    return kept


def run(scans: Path, results: Path, weights: Path) -> None:
    """Segment every NIfTI scan of a folder and write ``run.json``.

    Parameters
    ----------
    scans, results : Path
        Folders; ``X_0000.nii.gz`` becomes ``X.nii.gz``.
    weights : Path
        Folder that holds ``locate`` and ``segment``.

    Raises
    ------
    UsageError
        If there is no scan.
    WeightsError
        If a checkpoint cannot be used.
    """
    paths = sorted(path for path in scans.iterdir() if path.name.endswith(SUFFIX))
    if not paths:
        raise UsageError(f"--input {scans}: no {SUFFIX} file; the reference reads no other type")
    import_s = time.time() - psutil.Process().create_time()
    started = time.perf_counter()
    locate, segment = open_phase(weights / "locate"), open_phase(weights / "segment")
    record: dict[str, Any] = {
        "versions": {name: metadata.version(name) for name in ("torch", "monai", "nibabel")},
        "precision": "f32",
        "threads": torch.get_num_threads(),
        "startup_seconds": {
            "import": round(import_s, 3),
            "compile": round(time.perf_counter() - started, 3),
        },
        "startup_in_sequence": True,
        "cases": [],
    }
    for path in paths:
        name = path.name.removesuffix(SUFFIX).removesuffix("_0000")
        with torch.inference_mode():
            seconds = segment_scan(path, results / f"{name}{SUFFIX}", locate, segment)
        record["cases"].append({"name": name, "status": "ok", "seconds": seconds})
    (results / RECORD_NAME).write_text(json.dumps(record, indent=2) + "\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line.

    Returns
    -------
    int
        0 if all went well, 2 for wrong use.
    """
    parser = argparse.ArgumentParser(prog="python -m app.benchmark.reference", description=__doc__)
    parser.add_argument("--input", type=Path, required=True, metavar="DIR")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--weights", type=Path, required=True, metavar="DIR")
    parsed = parser.parse_args(arguments)
    try:
        run(parsed.input, parsed.output, parsed.weights)
    except CascadeError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
