"""What bfloat16 changes in the labels, on a processor that does not compute in it.

    python tests/trials/bf16.py --scans FOLDER --work FOLDER [--weights weights]

Both networks get a twin in which weights and the result of every operation are rounded to
bfloat16; sums within an operation and the last one's scores stay float32, as on a processor with
instructions for it. An engine that fuses operations rounds less often: this is the worse case.
`predict` labels each NIfTI scan with both in f32. Printed is the DSC of every organ between the
two: 0.995 is asked for, 0.99 of adrenal glands and gallbladder. The exit code is 1 where one is
below. The twin's label maps lie in `rounded`, so that `evaluate` can score either.
"""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from app.benchmark.compare import dice_per_organ
from app.cascade.engine import CpuNetwork, ov
from app.config import DEFAULT_WEIGHTS
from app.imaging.io import read_scan
from app.labels import ORGANS
from app.manifest import MANIFEST_NAME, MODEL_NAME, checksums
from tests.trials.plain import is_low

SPLITTER = 2.0**16 + 1
"""Veltkamp's factor: what is left of float32's 24 bits are the 8 of bfloat16, to nearest."""

MOVES = {"Transpose", "Reshape", "Unsqueeze", "Concat", "VariadicSplit", "Gather", "Result"}
"""Operations that compute nothing."""


def rounded(output):
    """Append the rounding of a result: ``c - (c - x)`` with ``c = 65537 x``."""
    ops = ov.opset13
    factor = ops.constant(np.float32(SPLITTER))
    scaled = ops.multiply(output, factor)
    return ops.subtract(scaled, ops.subtract(scaled, output)).output(0)


def round_everywhere(model):
    """Round all that a network computes and was trained to, but for its scores, in place."""
    scores = model.output(0).get_node().input_value(0)
    for operation in model.get_ordered_ops():
        for output in operation.outputs():
            is_number = output.get_element_type() == ov.Type.f32
            if not is_number or operation.get_type_name() in MOVES or output == scores:
                continue
            readers = list(output.get_target_inputs())
            source = rounded(output)
            for reader in readers:
                reader.replace_source_output(source)


def make_twin(weights, twin):
    """Write networks that round to where all that lies with the others is copied to."""
    shutil.copytree(weights, twin, dirs_exist_ok=True)
    for path in twin.glob(f"*/{MODEL_NAME}"):
        model = ov.Core().read_model(weights / path.parent.name / MODEL_NAME)
        round_everywhere(model)
        ov.save_model(model, path, compress_to_fp16=False)
        manifest = path.with_name(MANIFEST_NAME)
        record = json.loads(manifest.read_text())
        record["files"] = checksums(path.parent, record["files"])
        manifest.write_text(json.dumps(record))
        pair = [
            CpuNetwork(at / path.parent.name / MODEL_NAME, precision="f32")
            for at in (weights, twin)
        ]
        patch = np.random.default_rng(0).standard_normal(pair[0].patch_shape, np.float32)
        exact, coarse = (network.run(patch) for network in pair)
        print(
            f"{path.parent.name}: scores of noise differ by {np.abs(exact - coarse).max():.3f} "
            f"of {np.abs(exact).max():.1f} at most"
        )


def predict(weights, scans, output):
    """Label a folder of scans in float32."""
    command = [sys.executable, "-m", "app", "predict", "--precision", "f32"]
    command += ["--input", str(scans), "--output", str(output), "--weights", str(weights)]
    subprocess.run(command, check=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scans", type=Path, required=True, help="folder of .nii.gz files")
    parser.add_argument(
        "--work", type=Path, required=True, help="folder for networks and label maps"
    )
    parser.add_argument("--weights", type=Path, default=DEFAULT_WEIGHTS)
    options = parser.parse_args()
    make_twin(options.weights, options.work / "weights")
    predict(options.weights, options.scans, options.work / "exact")
    predict(options.work / "weights", options.scans, options.work / "rounded")
    agreement, missed = {}, 0
    for exact in sorted((options.work / "exact").glob("*.nii.gz")):
        pair = [read_scan(path)[0].array for path in (exact, options.work / "rounded" / exact.name)]
        for organ, dsc in dice_per_organ(*pair).items():
            if dsc is None:
                continue
            agreement.setdefault(organ, []).append(dsc)
            if is_low(organ, dsc):
                missed += 1
                print(f"{exact.name}: {organ} {dsc:.4f} LOW", flush=True)
    print("| organ | least DSC | mean |", "|---|---|---|", sep="\n")
    for organ in ORGANS:
        found = agreement.get(organ.name)
        if found is None:
            continue
        print(f"| {organ.name.replace('_', ' ')} | {min(found):.4f} | {np.mean(found):.4f} |")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
