"""What it costs to make a training patch of a phase, and a digest of what was made.

    python tests/trials/synthetic_patches.py --bank DIR [--phase segment] [--patches 60] [--profile]
        [--unscanned: leave out what `train --scan-on-device` leaves to a device]

Prints processor seconds a patch on one core, the reading of bodies left out, and a digest of all
images and labels: two states of the code that print the same digest make the same patches.
"""

import argparse
import cProfile
import hashlib
import os
import pstats
import sys
import time
from pathlib import Path

# Read by the libraries as they are imported.
os.environ["OMP_NUM_THREADS"] = "1"
sys.path.insert(0, str(Path(__file__).parents[2]))

from app.config import LOCATE, SEGMENT
from app.data.synthetic import SyntheticPatches, UnscannedPatches, load_body

CONFIGS = {config.name: config for config in (LOCATE, SEGMENT)}

BODIES = 20
"""How many of the bank's bodies patches are made of: they are read before the clock starts."""


def main() -> None:
    """Make patches of a fixed seed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bank", type=Path, required=True)
    parser.add_argument("--phase", choices=CONFIGS, default="segment")
    parser.add_argument("--patches", type=int, default=60)
    parser.add_argument("--seed", type=int, default=18)
    parser.add_argument("--profile", action="store_true", help="say which functions took it")
    parser.add_argument("--unscanned", action="store_true", help="phase two's up to the scanner")
    options = parser.parse_args()
    bodies = sorted(options.bank.glob("*.npz"))[:BODIES]
    for body in bodies:
        load_body(body)
    kind = UnscannedPatches if options.unscanned else SyntheticPatches
    patches = kind(
        bodies,
        CONFIGS[options.phase],
        patch_shape=CONFIGS[options.phase].patch_shape,
        seed=options.seed,
    )
    digest, profile = hashlib.sha256(), cProfile.Profile(time.process_time)
    seconds, stream = 0.0, iter(patches)
    for _ in range(options.patches):
        begun = time.process_time()
        if options.profile:
            profile.enable()
        made = next(stream)
        profile.disable()
        seconds += time.process_time() - begun
        image, labels = (made.tissues, made.labels) if options.unscanned else made
        digest.update(image.numpy())
        digest.update(labels.numpy())
    print(f"{seconds / options.patches:.3f} s of processor time a patch, {digest.hexdigest()[:16]}")
    if options.profile:
        for order in ("tottime", "cumtime"):
            pstats.Stats(profile).strip_dirs().sort_stats(order).print_stats(45)


if __name__ == "__main__":
    main()
