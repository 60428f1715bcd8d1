import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from app.config import LOCATE, SEGMENT
from app.data.synthetic import (
    SyntheticPatches,
    cut_patch,
    load_body,
    locate_example,
    segment_example,
)
from app.errors import UnreadableScanError
from app.synthesis.tissues import ORGAN_OF_TISSUE, Tissue

SHAPE = (32, 48, 64)


def test_body_knows_points_in_every_organ(body_file):
    body = load_body(body_file)

    labels = ORGAN_OF_TISSUE[body.tissues]
    found = [np.unique(labels[tuple(points.T)]).tolist() for points in body.organ_points]
    assert found == [[value] for value in range(1, 14)]


def test_an_undeformed_patch_is_the_body_itself(body_file, monkeypatch):
    monkeypatch.setattr("app.data.synthetic._rotation", lambda rng: np.eye(3))
    body = load_body(body_file)

    class Still:
        """Draws the middle of every range, and no noise."""

        def uniform(self, low, high, size=None):
            middle = {(0.0, 5.0): 0.0}.get((low, high), 1.0)
            return np.full(size, middle) if size else middle

        def standard_normal(self, shape, dtype):
            return np.zeros(shape, dtype)

    center = (np.array((9, 11, 13)) - 1) / 2 + (20, 30, 40)
    patch = cut_patch(body, center, (9, 11, 13), body.spacing_mm, Still())

    np.testing.assert_array_equal(patch, body.tissues[20:29, 30:41, 40:53])


def test_outside_the_body_volume_lies_air(body_file):
    rng = np.random.default_rng(0)

    patch = cut_patch(load_body(body_file), np.array([-500.0, 0, 0]), SHAPE, (2, 2, 2), rng)

    assert set(np.unique(patch)) == {Tissue.AIR}


@pytest.mark.parametrize(("example", "config", "values"), [
    (segment_example, SEGMENT, set(range(14))),
    (locate_example, LOCATE, {0, 1}),
])  # fmt: skip
def test_examples_are_what_the_network_takes(body_file, example, config, values):
    rng = np.random.default_rng(1)
    body = load_body(body_file)

    for _ in range(4):
        image, labels = example(body, config, SHAPE, rng)

        assert image.shape == labels.shape == SHAPE
        assert image.dtype == np.float32
        assert -2 <= image.min()
        assert image.max() <= 2
        assert set(np.unique(labels)) <= values


def test_nothing_is_labeled_where_the_scanner_did_not_look(body_file):
    """Outside its field of view a scan is padded with air, input exactly -2."""
    rng = np.random.default_rng(2)
    body = load_body(body_file)

    cut = 0
    for _ in range(12):
        image, labels = locate_example(body, LOCATE, SHAPE, rng)
        blank = (image == -2).all(axis=(1, 2))
        cut += blank.any()
        assert not labels[blank].any()

    assert cut


def test_the_stream_repeats_for_a_seed_and_differs_for_another(body_file):
    def first(seed):
        patches = SyntheticPatches(
            [body_file], replace(SEGMENT, spacing_mm=(5.0, 4.0, 3.0)), patch_shape=SHAPE, seed=seed
        )
        return [image for image, _ in itertools.islice(patches, 2)]

    once, again, other = first(7), first(7), first(8)

    assert all(torch.equal(*pair) for pair in zip(once, again, strict=True))
    assert not torch.equal(once[0], once[1])
    assert not torch.equal(once[0], other[0])


def test_a_file_that_is_no_body_is_named(tmp_path):
    path = tmp_path / "broken_0.npz"
    path.write_bytes(b"not a bank")

    with pytest.raises(UnreadableScanError, match=r"broken_0\.npz"):
        load_body(path)
