"""Patches of real scans among synthetic ones, for self-training.

What the synthesis does not show, the network's own labels of real scans may teach; what they
have wrong, most patches of a batch still have right.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from monai.data.utils import set_rnd
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, get_worker_info

from app.data.augment import Example
from app.data.dataset import EndlessSampler
from app.data.synthetic import SyntheticPatches
from app.labels import NUM_CLASSES


class MixedPatches(IterableDataset[tuple[Tensor, Tensor, Tensor]]):
    """An endless stream of patches, most of them synthetic, some of real scans.

    Parameters
    ----------
    synthetic : SyntheticPatches
        Where most come from; what it draws does not depend on the scans.
    scans : Dataset
        From :func:`app.data.dataset.training_dataset`, of one patch a scan, of the same shape.
    share : float
        Probability that a patch is of a scan, 0 to 1.
    """

    def __init__(self, synthetic: SyntheticPatches, scans: Dataset[Any], *, share: float) -> None:
        self.synthetic = synthetic
        self.scans = scans
        self.share = share

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield patches without end, the same for the same seed of the synthetic ones.

        Yields
        ------
        image : (1, Z, Y, X) tensor of float32
        label : (1, Z, Y, X) tensor of int64
        labeled : (14,) tensor of bool
            The classes that the label map speaks of; all of them in a synthetic patch.
        """
        worker = get_worker_info()
        rng = np.random.default_rng([self.synthetic.seed, worker.id if worker else 0, 1])
        order, augmentation = rng.integers(2**31, size=2).tolist()
        set_rnd(self.scans, augmentation)
        synthetic = iter(self.synthetic)
        turns = iter(EndlessSampler(len(self.scans), seed=order))  # type: ignore[arg-type]
        while True:
            if rng.random() < self.share:
                drawn: Example = _one_patch(self.scans[next(turns)])
                yield drawn["image"], drawn["label"].long(), drawn["labeled"]
            else:
                yield *next(synthetic), torch.ones(NUM_CLASSES, dtype=torch.bool)


def _one_patch(drawn: Any) -> Example:
    """Give the patch itself: phase two's come in lists."""
    example: Example = drawn[0] if isinstance(drawn, list) else drawn
    return example
