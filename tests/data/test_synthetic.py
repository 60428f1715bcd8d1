import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, get_worker_info

from app.config import LOCATE, SEGMENT
from app.data import synthetic
from app.data.placement import cut
from app.data.synthetic import (
    SyntheticPatches,
    _belly_center,
    _segment_place,
    _skin_center,
    draw_scan,
    load_body,
    locate_example,
    random_placement,
    segment_example,
)
from app.errors import UnreadableScanError
from app.synthesis.appearance import draw_appearance
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
    placement = random_placement(body, center, (9, 11, 13), body.spacing_mm, Still())
    patch = cut(body.tissues, placement)

    np.testing.assert_array_equal(patch, body.tissues[20:29, 30:41, 40:53])


def test_outside_the_body_volume_lies_air(body_file):
    rng = np.random.default_rng(0)

    body = load_body(body_file)
    placement = random_placement(body, np.array([-500.0, 0, 0]), SHAPE, (2, 2, 2), rng)
    patch = cut(body.tissues, placement)

    assert set(np.unique(patch)) == {Tissue.AIR}


def test_a_place_on_the_skin_has_air_in_front_of_it_and_the_body_behind(body_file):
    body = load_body(body_file)
    for seed in range(6):
        z, y, x = _skin_center(body, np.random.default_rng(seed)).astype(int)
        assert body.tissues[z, y, x] != Tissue.AIR
        assert (body.tissues[z, :y, x] == Tissue.AIR).all()
        assert body.organ_start[0] <= z < body.organ_stop[0]


def test_a_place_in_the_belly_lies_in_the_cavity_no_higher_than_the_organs_middle(body_file):
    body = load_body(body_file)
    middle = (body.organ_start[0] + body.organ_stop[0]) / 2
    found = set()
    for seed in range(40):
        z, y, x = _belly_center(body, np.random.default_rng(seed)).astype(int)
        assert z < middle
        found.add(int(body.tissues[z, y, x]))
    assert Tissue.MESENTERY in found
    assert Tissue.AIR not in found


def test_labels_lie_where_the_scan_shows_the_organs(body_file, monkeypatch):
    """A shift of half a voxel between scan and labels would blur the liver's border."""
    monkeypatch.setattr("app.data.synthetic.vary", lambda *_: [])

    def plain(rng):
        hu = np.full(256, -1000.0, np.float32)
        hu[ORGAN_OF_TISSUE == Tissue.LIVER] = 1000.0
        nothing = dict.fromkeys(
            ("noise_hu", "shading_hu", "sharpness", "streak_hu", "pixel_mm"), 0.0
        )
        return replace(
            draw_appearance(rng), hu=hu, texture_hu=0 * hu, blur_mm=0.1, slice_mm=1.0, **nothing
        )

    monkeypatch.setattr("app.synthesis.spine.draw_appearance", plain)
    body = load_body(body_file)
    center = body.organ_points[Tissue.LIVER - 1].mean(axis=0)

    hu, labels = draw_scan(body, center, (40, 44, 48), (3.0, 2.5, 2.0), np.random.default_rng(3))

    liver = labels == Tissue.LIVER
    assert 1000 < liver.sum() < liver.size
    assert np.mean((hu > 0) == liver) > 0.98
    for axis in range(3):
        both_ways = [np.mean((hu > 0) == np.roll(liver, step, axis)) for step in (-1, 1)]
        assert abs(both_ways[0] - both_ways[1]) < 0.004


def test_bones_have_the_density_of_an_age_whatever_the_look(body_file, dark_look, monkeypatch):
    monkeypatch.setattr("app.synthesis.spine.draw_appearance", dark_look)
    body = load_body(body_file)
    center = np.argwhere(body.tissues == Tissue.TRABECULAR_BONE).mean(0)

    hu, _ = draw_scan(body, center, SHAPE, (4.0, 4.0, 4.0), np.random.default_rng(3))
    volume, _ = locate_example(body, LOCATE, SHAPE, np.random.default_rng(3))

    for bright in (hu > -300, volume > volume.min()):
        assert 0.001 < bright.mean() < 0.3


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


def test_half_of_the_patches_below_the_organs_end_at_their_middle_and_no_others(body_file):
    body = load_body(body_file)
    size = (64, 48, 32)
    share = 0.08  # of all patches, by _segment_place

    ends = [_segment_place(body, size, np.random.default_rng(seed))[1] for seed in range(2000)]

    assert set(ends) == {32, 64}
    assert share / 4 < np.mean(np.array(ends) == 32) < share  # a half, more or less


def test_a_scan_that_ends_below_shows_and_labels_nothing_above(body_file, monkeypatch):
    body = load_body(body_file)
    middle = (body.organ_start + body.organ_stop) / 2
    monkeypatch.setattr(synthetic, "_segment_place", lambda body, shape, rng: (middle, 11))

    image, labels = segment_example(body, SEGMENT, SHAPE, np.random.default_rng(4))

    assert (image[11:] == -2).all()
    assert not labels[11:].any()
    assert labels[:11].any()


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


@pytest.mark.parametrize(("num_bodies", "shares"), [(5, [{0, 2, 4}, {1, 3}]), (1, [{0}, {0}])])
def test_workers_divide_the_bodies_that_each_of_them_keeps(monkeypatch, num_bodies, shares):
    def example(body, config, shape, rng):
        return np.full(shape, body, np.float32), np.full(shape, get_worker_info().id, np.uint8)

    # Each file is its own number, and a patch tells that of its body.
    monkeypatch.setattr("app.data.synthetic.load_body", lambda number: number)
    monkeypatch.setattr("app.data.synthetic.EXAMPLES", {"segment": example})
    patches = SyntheticPatches(list(range(num_bodies)), SEGMENT, patch_shape=(1, 1, 1), seed=0)

    drawn = [set(), set()]
    for body, worker in itertools.islice(DataLoader(patches, batch_size=None, num_workers=2), 60):
        drawn[worker.item()].add(int(body))

    assert drawn == shares
