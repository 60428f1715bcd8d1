"""What a training step of phase two costs on this machine, and what keeping freed memory saves.

    python tests/trials/training_step.py [--patch 96] [--rounds 3] [--preload LIBRARY ...]

Each row is a process of its own: seconds, processor seconds and page faults of a step, in turn
without and with `keep_freed_memory`, and with the allocators that are given (libjemalloc.so.2,
libtcmalloc_minimal.so.4) in place of the C library's.
"""

import argparse
import os
import resource
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parents[2]))

STEPS = 3

KEEPING = {
    "THP_MEM_ALLOC_ENABLE": "1",
    "MALLOC_CONF": "oversize_threshold:0,dirty_decay_ms:-1,muzzy_decay_ms:-1,narenas:1,thp:always",
    "TCMALLOC_RELEASE_RATE": "0",
}
"""Lets jemalloc and tcmalloc keep freed memory; each passes over what is the other's."""


def measure(patch: int) -> str:
    """Take a step to warm up, then some more, and say what one of these cost."""
    import torch

    from app.config import SEGMENT
    from app.models.build import build_network
    from app.training.config import RECIPES
    from app.training.loop import Trainer
    from app.training.objective import make_objective

    torch.manual_seed(0)
    network = build_network(SEGMENT).train()
    config = replace(RECIPES["segment"], patch_shape=(patch, patch, patch))
    image = torch.randn(1, 1, *config.patch_shape)
    labels = torch.randint(len(SEGMENT.class_names), image.shape)
    with TemporaryDirectory() as folder:
        objective = make_objective(network, SEGMENT.widths, config)
        trainer = Trainer(network, config, Path(folder), objective=objective)
        trainer.train_step(image, labels)
        begun, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF)
        for _ in range(STEPS):
            trainer.train_step(image, labels)
    after = resource.getrusage(resource.RUSAGE_SELF)
    seconds = (time.monotonic() - begun) / STEPS
    user = (after.ru_utime - before.ru_utime) / STEPS
    system = (after.ru_stime - before.ru_stime) / STEPS
    faults = (after.ru_minflt - before.ru_minflt) / STEPS
    return (
        f"{seconds:6.2f} s  user {user:6.2f} s  system {system:5.2f} s  "
        f"{faults:9.0f} page faults  {after.ru_maxrss / 1024:6.0f} MiB"
    )


def main() -> None:
    """Measure both ways in turn."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--patch", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--preload", type=Path, nargs="*", default=[], metavar="LIBRARY")
    parser.add_argument("--one", choices=("as it comes", "kept"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        if arguments.one == "kept":
            from app.training.machine import keep_freed_memory

            keep_freed_memory()
        print(measure(arguments.patch))
        return
    ways = [("as it comes", "as it comes", {}), ("kept", "kept", {})]
    for library in arguments.preload:
        preloaded = {"LD_PRELOAD": str(library), **KEEPING}
        ways.append((library.name.split(".")[0], "as it comes", preloaded))
    for _ in range(arguments.rounds):
        for name, way, environment in ways:
            command = [sys.executable, __file__, "--patch", str(arguments.patch), "--one", way]
            measured = subprocess.check_output(
                command, env={**os.environ, **environment}, text=True
            )
            print(f"{name:22}", measured.strip(), flush=True)


if __name__ == "__main__":
    main()
