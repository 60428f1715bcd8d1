"""Processes that make patches beside the one that trains."""

import os

import torch

NICENESS = 10
"""By how much they stand back behind the process that trains; 19 is the most there is."""


def start_worker(_: int) -> None:
    """Take one thread, and only what the training process leaves of the processors.

    On a CPU the network's threads wait for each other after every layer: a patch that is made on
    a processor of theirs holds up all of them. Two workers that stand back make patches
    while the network waits for one, each on a processor, and hold up none.
    """
    torch.set_num_threads(1)
    os.nice(NICENESS)
