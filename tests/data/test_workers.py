"""Processes that make patches stand back behind the one that trains."""

import os

import torch
from monai.transforms import Randomizable
from torch.utils.data import Dataset

from app.data.dataset import batches
from app.data.workers import NICENESS


class _Priorities(Dataset):
    """Tells as an image with how many threads and at which priority it is made."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        told = [torch.get_num_threads(), os.getpriority(os.PRIO_PROCESS, 0)]
        return {
            "image": torch.tensor(told),
            "label": torch.zeros(1),
            "labeled": torch.ones(14, dtype=torch.bool),
        }


def _threads_and_priority(workers):
    made = batches(_Priorities(), scans_per_batch=1, seed=0, workers=workers)
    image, *_ = next(made)
    return image[0].tolist()


def test_a_worker_has_one_thread_and_a_lower_priority_than_the_training():
    threads, priority = _threads_and_priority(workers=1)

    assert threads == 1
    # A system gives no more than 19.
    assert priority == min(19, os.getpriority(os.PRIO_PROCESS, 0) + NICENESS)


def test_patches_made_in_between_leave_the_training_its_threads_and_priority():
    threads, priority = _threads_and_priority(workers=0)

    assert threads == torch.get_num_threads()
    assert priority == os.getpriority(os.PRIO_PROCESS, 0)


class _Drawn(Randomizable, Dataset):
    """Tells what its own random numbers are."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return {
            "image": torch.tensor([self.R.random()]),
            "label": torch.zeros(1),
            "labeled": torch.ones(14, dtype=torch.bool),
        }


def test_workers_draw_other_augmentations_than_their_neighbors():
    made = batches(_Drawn(), scans_per_batch=1, seed=0, workers=2)
    drawn = [float(next(made)[0]) for _ in range(2)]  # one of each worker

    assert drawn[0] != drawn[1]
