import itertools
from dataclasses import replace

import pytest
import torch
from own_data import write_case
from torch.utils.data import DataLoader

from app.config import SEGMENT
from app.data.cases import find_cases
from app.data.dataset import training_dataset
from app.data.mixture import MixedPatches
from app.data.synthetic import SyntheticPatches

PHASE = replace(SEGMENT, spacing_mm=(5.0, 4.0, 3.0))
SHAPE = (16, 32, 48)


@pytest.fixture
def scans(tmp_path):
    """Two scans in which nobody looked for more than three organs."""
    for name in "ab":
        write_case(tmp_path, name)
    organs = ("liver", "right_kidney", "left_kidney")
    cases, _ = find_cases(tmp_path, labeled_organs=organs)
    return training_dataset(
        cases, PHASE, patch_shape=SHAPE, patches_per_scan=1, cache=tmp_path / "prepared"
    )


def synthetic(body_file, seed):
    return SyntheticPatches([body_file], PHASE, patch_shape=SHAPE, seed=seed)


def test_patches_of_scans_are_like_synthetic_ones_and_say_what_is_labeled(body_file, scans):
    mixed = MixedPatches(synthetic(body_file, 5), scans, share=0.5)

    images, labels, labeled = next(iter(DataLoader(mixed, batch_size=8)))

    assert type(images) is type(labels) is torch.Tensor
    assert images.shape == labels.shape == (8, 1, *SHAPE)
    assert (images.dtype, labels.dtype, labeled.dtype) == (torch.float32, torch.int64, torch.bool)
    is_real = ~labeled.all(dim=1)
    assert is_real.any()
    assert not is_real.all()
    assert labeled[is_real].nonzero()[:, 1].tolist() == [0, 1, 2, 13] * int(is_real.sum())
    assert set(labels[is_real].unique().tolist()) <= {0, 1, 2, 13}


def test_the_same_seed_gives_the_same_mixture(body_file, scans):
    def draw(seed):
        return list(itertools.islice(MixedPatches(synthetic(body_file, seed), scans, share=0.5), 6))

    once, again, other = draw(3), draw(3), draw(4)

    for patch, same in zip(once, again, strict=True):
        assert all(torch.equal(*pair) for pair in zip(patch, same, strict=True))
    assert not all(torch.equal(a[0], b[0]) for a, b in zip(once, other, strict=True))


def test_scans_do_not_change_what_is_synthesized(body_file, scans):
    mixed = MixedPatches(synthetic(body_file, 5), scans, share=0.5)
    among = [image for image, _, labeled in itertools.islice(mixed, 6) if labeled.all()]

    alone = [image for image, _ in itertools.islice(synthetic(body_file, 5), len(among))]

    assert 0 < len(among) < 6
    assert all(torch.equal(*pair) for pair in zip(among, alone, strict=True))


def test_about_as_many_patches_as_asked_for_are_of_scans():
    class Blank:
        seed = 1

        def __iter__(self):
            return itertools.repeat((torch.zeros(1), torch.zeros(1, dtype=torch.int64)))

    scans = [
        {"image": torch.ones(1), "label": torch.ones(1), "labeled": torch.ones(14)} for _ in "abc"
    ]
    drawn = itertools.islice(MixedPatches(Blank(), scans, share=0.1), 2000)

    assert 160 <= sum(int(image) for image, _, _ in drawn) <= 240
