"""Where a network's time goes: seconds for a patch, and the engine's own count by kind of layer.

``python tests/trials/layers.py weights/segment [--precision f32] [--threads 2] [--largest 12]``

With ``--eager`` also the seconds that PyTorch takes for the checkpoint, unfolded, in float32.
``ONEDNN_MAX_CPU_ISA=AVX2`` before it hides instructions from both, as if the processor had none.
"""

import argparse
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.modules.setdefault("openvino_telemetry", cast("Any", None))

import openvino as ov  # noqa: E402

from app.cascade.engine import INPUT_NAME, available_threads, cpu_features  # noqa: E402
from app.manifest import MODEL_NAME  # noqa: E402

TYPES = {"f32": ov.Type.f32, "bf16": ov.Type.bf16}
REPEATS = 7


def run_eager(folder: Path, patch: npt.NDArray[np.float32], threads: int) -> list[float]:
    """Run the checkpoint as PyTorch does; give the seconds of each run."""
    import torch

    from app.export.to_ir import open_checkpoint

    torch.set_num_threads(threads)
    network, image = open_checkpoint(folder).network, torch.from_numpy(patch)
    seconds = []
    with torch.inference_mode():
        for _ in range(REPEATS):
            started = time.perf_counter()
            network(image)
            seconds.append(time.perf_counter() - started)
    return seconds


def main() -> None:
    """Compile, run, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--precision", choices=TYPES, default=cpu_features().precision)
    parser.add_argument("--threads", type=int, default=available_threads())
    parser.add_argument("--largest", type=int, default=12)
    parser.add_argument("--eager", action="store_true")
    asked = parser.parse_args()
    settings: dict[str, Any] = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": asked.threads,
        "INFERENCE_PRECISION_HINT": TYPES[asked.precision],
    }
    core = ov.Core()
    started = time.perf_counter()
    compiled = core.compile_model(core.read_model(asked.folder / MODEL_NAME), "CPU", settings)
    print(f"compile {time.perf_counter() - started:.2f} s")
    shape = tuple(compiled.input(INPUT_NAME).shape)
    patch = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    request = compiled.create_infer_request()
    seconds = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        request.infer({INPUT_NAME: patch}, share_inputs=True, share_outputs=True)
        seconds.append(time.perf_counter() - started)
    print(f"patch of {shape[2:]}: least {min(seconds):.3f} s, median {np.median(seconds):.3f} s")
    if asked.eager:
        seconds = run_eager(asked.folder, patch, asked.threads)
        print(f"PyTorch, eager f32: least {min(seconds):.3f} s, median {np.median(seconds):.3f} s")

    # Counting costs time itself, so that it is done by another copy.
    counted = core.compile_model(
        core.read_model(asked.folder / MODEL_NAME), "CPU", settings | {"PERF_COUNT": True}
    ).create_infer_request()
    for _ in range(2):
        counted.infer({INPUT_NAME: patch})
    layers = [
        (info.real_time.total_seconds() * 1e3, info.node_type, info.exec_type, info.node_name)
        for info in counted.get_profiling_info()
    ]
    kinds: Counter[tuple[str, str]] = Counter()
    for ms, kind, kernel, _ in layers:
        kinds[kind, kernel] += cast("int", ms)
    for (kind, kernel), ms in kinds.most_common(asked.largest):
        print(f"{ms:8.1f} ms  {kind} {kernel}")
    for ms, kind, _, name in sorted(layers, reverse=True)[: asked.largest]:
        print(f"{ms:8.1f} ms  {kind} {name}")


if __name__ == "__main__":
    main()
