"""Turn checkpoints into the IR that the runtime uses."""

import argparse
from pathlib import Path

from app.config import DEFAULT_WEIGHTS

HELP = "convert checkpoints to OpenVINO IR and prove both equal"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's arguments."""
    parser.add_argument(
        "--weights",
        type=Path,
        default=DEFAULT_WEIGHTS,
        metavar="DIR",
        help="folder with locate and segment, each holding checkpoint.safetensors and "
        "training.json (default: the weights that came with the program)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="where to write the IR and manifests (default: beside the checkpoints)",
    )
    parser.add_argument(
        "--phase", choices=("locate", "segment"), help="convert one phase only (default: both)"
    )
    parser.add_argument(
        "--prepared",
        action="store_true",
        help="larger files that open faster: weights in float32 and the graph simplified, as the "
        "engine would do at every start; for the container image",
    )


def run(arguments: argparse.Namespace) -> int:
    """Convert the phases one after the other."""
    from app.export.to_ir import export_phase

    output = arguments.output or arguments.weights
    for phase in (arguments.phase,) if arguments.phase else ("locate", "segment"):
        manifest = export_phase(
            arguments.weights / phase, output / phase, prepared=arguments.prepared
        )
        print(
            f"{output / phase}: {manifest.parameters:,} parameters, logits differ by at most "
            f"{manifest.conversion['largest_logit_difference']:.1e}, "
            f"{manifest.conversion['equal_argmax']:.4%} of voxels agree"
        )
    return 0
