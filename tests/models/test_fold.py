from dataclasses import replace

import torch
from torch import nn

from app.config import LOCATE, SEGMENT
from app.models.fold import FoldedLocator, fold_segmenter
from app.models.locator import Locator
from app.models.modulation import GroupedLinear
from app.models.segmenter import Segmenter


def with_random_statistics(network):
    """Give batch norms something to fold: fresh ones are the identity."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm3d):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            nn.init.uniform_(module.weight, 0.5, 2.0)
            nn.init.normal_(module.bias)
    return network.eval()


def test_folded_locator_gives_the_difference_of_the_logits():
    torch.manual_seed(0)
    locator = Locator(LOCATE).eval()
    patch = torch.randn(1, 1, 32, 64, 96)

    with torch.no_grad():
        logits = locator(patch)
        difference = FoldedLocator(locator)(patch)

    torch.testing.assert_close(difference[:, 0], logits[:, 1] - logits[:, 0], rtol=0, atol=1e-5)


def test_folded_locator_decoder_has_one_weight_per_channel_and_scale():
    scales = FoldedLocator(Locator(LOCATE)).scales

    assert sum(p.numel() for p in scales.parameters()) == 32 + 64 + 128 + 256 + 1


def test_folded_segmenter_gives_the_same_logits_with_fewer_layers():
    torch.manual_seed(0)
    segmenter = with_random_statistics(Segmenter(replace(SEGMENT, depths=(1, 1, 2, 1))))
    patch = torch.randn(1, 1, 32, 48, 64)

    folded = fold_segmenter(segmenter)
    with torch.no_grad():
        expected, found = segmenter(patch), folded(patch)

    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    kinds = {type(module) for module in folded.modules()}
    assert not kinds & {nn.BatchNorm3d, GroupedLinear}


def test_folding_leaves_the_trained_network_alone():
    segmenter = with_random_statistics(Segmenter(replace(SEGMENT, depths=(1, 1, 1, 1))))
    before = {name: tensor.clone() for name, tensor in segmenter.state_dict().items()}

    fold_segmenter(segmenter)

    after = segmenter.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
