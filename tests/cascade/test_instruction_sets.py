"""f32 gives the same labels whatever instructions a processor has, up to rounding ties.

The engine picks other kernels for other instruction sets, and those add up in other orders. An
environment variable hides instructions from oneDNN, which does most of the work, so that this
machine stands in for lesser ones; the names of the kernels show that it obeys. Matrix products
(MLAS) and a kernel of the engine's own ask the processor themselves. The engine compiles phase two
for no processor without AVX, and that is told.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from app.config import LOCATE, SEGMENT
from app.imaging.intensity import normalize
from app.synthesis.phantom import make_phantom

ROOT = Path(__file__).resolve().parents[2]
HIDES_INSTRUCTIONS = "ONEDNN_MAX_CPU_ISA"
ALL = "all"
ROUNDING = 0.02
"""Most that logits, which reach 100, may differ. A fiftieth of a logit is 0.5 % of certainty."""

RUN = f"""
import json, sys
import numpy as np
sys.path.insert(0, {str(ROOT)!r})
from app.cascade.engine import CpuNetwork
import openvino as ov

folder, output = sys.argv[1:]
kernels = set()
for phase in ("locate", "segment"):
    model = {str(ROOT / "weights")!r} + f"/{{phase}}/model.xml"
    patch = np.load(f"{{folder}}/{{phase}}.npy")
    np.save(f"{{output}}-{{phase}}.npy", CpuNetwork(model, threads=1, precision="f32").run(patch))
    settings = {{"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}}
    compiled = ov.Core().compile_model(model, "CPU", settings)
    kernels |= {{
        node.get_rt_info()["primitiveType"].astype(str)
        for node in compiled.get_runtime_model().get_ops()
    }}
print(json.dumps(sorted(kernels)))
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Give, by instruction set, the names of the kernels and the scores of both phases."""
    folder = tmp_path_factory.mktemp("patches")
    for config in (LOCATE, SEGMENT):
        hu, _ = make_phantom(shape=config.patch_shape, spacing_mm=config.spacing_mm, seed=11)
        np.save(folder / f"{config.name}.npy", normalize(hu, config.window_hu))
    found = {}
    for instructions in ("AVX", "AVX2", ALL):
        command = [sys.executable, "-c", RUN, str(folder), str(folder / instructions)]
        finished = subprocess.run(
            command,
            env=os.environ | {HIDES_INSTRUCTIONS: instructions},
            capture_output=True,
            text=True,
            check=True,
        )
        scores = [np.load(folder / f"{instructions}-{name}.npy") for name in ("locate", "segment")]
        found[instructions] = json.loads(finished.stdout), scores
    return found


def test_other_instructions_make_other_kernels(runs):
    """Else the next test would compare a run with itself."""
    avx, avx2 = (set(runs[instructions][0]) for instructions in ("AVX", "AVX2"))
    assert any("avx_" in kernel for kernel in avx - avx2)
    assert any("avx2_" in kernel for kernel in avx2 - avx)


@pytest.mark.parametrize("instructions", ["AVX", "AVX2"])
def test_labels_differ_by_rounding_ties_alone(runs, instructions):
    for expected, found in zip(runs[ALL][1], runs[instructions][1], strict=True):
        # Phase one gives one score, of which 0 is the border.
        expected, found = (
            np.concatenate([np.zeros_like(scores), scores]) if len(scores) == 1 else scores
            for scores in (expected, found)
        )
        assert np.abs(found - expected).max() < ROUNDING
        labels = expected.argmax(axis=0)
        assert len(np.unique(labels)) > 1  # there is something to get wrong
        differ = found.argmax(axis=0) != labels
        assert differ.mean() < 1e-4
        second, best = np.partition(expected[:, differ], -2, axis=0)[-2:]
        assert (best - second < 2 * ROUNDING).all()


def test_a_processor_that_the_engine_knows_no_kernels_for_is_named_as_the_cause():
    open_network = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from app.cascade.engine import CpuNetwork
CpuNetwork({str(ROOT / "weights" / "segment" / "model.xml")!r}, threads=1, precision="f32")
"""

    finished = subprocess.run(
        [sys.executable, "-c", open_network],
        env=os.environ | {HIDES_INSTRUCTIONS: "SSE41"},
        capture_output=True,
        text=True,
    )

    assert finished.returncode == 1
    assert "WeightsError" in finished.stderr
    assert "not compiled for this processor" in finished.stderr
    assert "AVX" in finished.stderr
