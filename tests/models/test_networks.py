from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from app.config import LOCATE, SEGMENT
from app.models.build import build_network
from app.models.locator import DropPath, Locator, PartialConv
from app.models.macs import count_macs
from app.models.modulation import GroupedLinear, InstanceNorm, ScaleAwareModulation, SelfAttention
from app.models.segmenter import Segmenter


def num_parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


def test_parameter_counts_are_the_published_ones():
    assert num_parameters(Locator(LOCATE)) == 1_367_618
    assert num_parameters(Segmenter(SEGMENT)) == 9_373_994
    assert num_parameters(Segmenter(replace(SEGMENT, depths=(2, 4, 6, 2)))) == 11_810_714


PUBLISHED = replace(SEGMENT, patch_shape=(96, 96, 96))


@pytest.mark.parametrize(("config", "gmacs"), [(LOCATE, 1.002), (PUBLISHED, 25.54)])
def test_multiply_adds_are_the_published_ones(config, gmacs):
    network = build_network(config).eval()

    assert count_macs(network, config.patch_shape) / 1e9 == pytest.approx(gmacs, rel=5e-4)


def test_locator_gives_two_logits_at_input_size_for_unequal_sizes():
    with torch.no_grad():
        logits = Locator(LOCATE).eval()(torch.zeros(2, 1, 32, 64, 96))

    assert logits.shape == (2, 2, 32, 64, 96)


def test_segmenter_gives_fourteen_logits_and_the_published_skips():
    network = Segmenter(SEGMENT).eval()
    patch = torch.zeros(1, 1, 96, 96, 96)

    with torch.no_grad():
        skips = network.encoder(patch)
        logits = network(torch.zeros(1, 1, 32, 48, 64))

    assert [tuple(skip.shape) for skip in skips] == [
        (1, 60, 48, 48, 48),
        (1, 120, 24, 24, 24),
        (1, 240, 12, 12, 12),
        (1, 480, 6, 6, 6),
    ]
    assert logits.shape == (1, 14, 32, 48, 64)


def test_modulation_comes_first_and_attention_where_the_grid_is_coarse():
    stages = Segmenter(replace(SEGMENT, depths=(2, 4, 6, 2))).encoder.stages

    attends = [[isinstance(block.mixer, SelfAttention) for block in stage] for stage in stages]

    assert attends == [
        [False, False],
        [False, False, False, False],
        [False, True, False, True, False, True],
        [True, True],
    ]


def test_partial_convolution_leaves_three_quarters_of_the_channels_alone():
    x = torch.randn(1, 8, 3, 4, 5)

    y = PartialConv(8)(x)

    torch.testing.assert_close(y[:, 2:], x[:, 2:])
    assert not torch.allclose(y[:, :2], x[:, :2])


def test_drop_path_keeps_the_expected_value_and_drops_whole_samples():
    torch.manual_seed(0)
    dropped = DropPath(0.5).train()(torch.ones(1000, 1, 1, 1, 1)).flatten()

    assert set(dropped.tolist()) == {0.0, 2.0}
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.1)
    assert DropPath(0.5).eval()(torch.ones(2, 1, 1, 1, 1)).tolist() == [[[[[1.0]]]]] * 2


def test_grouped_linear_is_a_grouped_convolution():
    layer = GroupedLinear(6, 12, groups=2)
    x = torch.randn(5, 6)

    expected = F.conv1d(x[:, :, None], layer.weight.reshape(12, 3, 1), layer.bias, groups=2)

    torch.testing.assert_close(layer(x), expected[:, :, 0])


def test_modulation_mixes_the_same_channel_of_the_three_heads():
    """Group g must see channel g of heads 0, 1 and 2, and nothing else."""
    mixer = ScaleAwareModulation(6).eval()
    seen = []
    mixer.mix_heads.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    for conv in mixer.convs:
        torch.nn.init.dirac_(conv.weight, groups=2)
        torch.nn.init.zeros_(conv.bias)
    torch.nn.init.eye_(mixer.source.weight)
    torch.nn.init.zeros_(mixer.source.bias)
    x = torch.arange(6.0).expand(1, 2, 3, 4, 6)

    with torch.no_grad():
        mixer(x)

    assert seen[0][0, 0, 0, 0].tolist() == [0.0, 2.0, 4.0, 1.0, 3.0, 5.0]


def test_attention_is_global_and_scaled_by_the_head_size():
    torch.manual_seed(3)
    mixer = SelfAttention(60).eval()
    torch.nn.init.zeros_(mixer.conv.weight)
    torch.nn.init.zeros_(mixer.conv.bias)
    x = torch.randn(1, 2, 3, 4, 60)
    tokens = x.reshape(24, 60)
    key, value = mixer.key_value(tokens).chunk(2, dim=1)
    expected = torch.empty(24, 60)
    for head in (slice(0, 30), slice(30, 60)):
        weights = (mixer.query(tokens)[:, head] @ key[:, head].T * 30**-0.5).softmax(dim=1)
        expected[:, head] = weights @ value[:, head]

    torch.testing.assert_close(mixer(x).reshape(24, 60), mixer.project(expected))


def gradients(module, *inputs):
    """Give the output of a module, and the gradients of a sum of its squares."""
    inputs = [x.clone().requires_grad_() for x in inputs]
    module.zero_grad()
    output = module(*inputs)
    output.square().sum().backward()
    return [output, *(x.grad for x in inputs), *(p.grad for p in module.parameters())]


def test_instance_norm_is_in_training_what_it_is_in_use():
    torch.manual_seed(0)
    x = torch.randn(2, 4, 5, 6, 3, dtype=torch.float64) * torch.tensor([1.0, 5.0, 0.1]) + 2

    weighted = torch.nn.Sequential(InstanceNorm(), torch.nn.Linear(3, 2)).double()

    torch.testing.assert_close(
        gradients(weighted.train(), x), gradients(weighted.eval(), x), rtol=1e-9, atol=1e-9
    )


def test_head_joined_in_training_gives_the_logits_and_gradients_of_its_two_layers():
    torch.manual_seed(0)
    network = Segmenter(SEGMENT)
    network.decoder = torch.nn.Identity()
    network.encoder = torch.nn.Identity()
    network = network.double()
    skip = torch.randn(2, 60, 2, 3, 4, dtype=torch.float64)

    torch.testing.assert_close(gradients(network.train(), skip), gradients(network.eval(), skip))
