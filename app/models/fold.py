"""Exact simplifications of both networks for inference.

Nothing is approximated: a chain of linear layers becomes one, batch norm and shortcuts
go into the convolution beside them, block-diagonal matrices are written out once,
channels are shuffled in the weights instead of the data, sums are ordered so that they
lose nothing.
"""

import copy
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import fuse_conv_bn_weights

from app.models.depthwise import DepthwiseConv3d
from app.models.lacb import ConvNormAct
from app.models.locator import DECODER_WIDTH, LinearDecoder, Locator
from app.models.modulation import (
    FeedForward,
    InstanceNorm,
    ScaleAwareModulation,
    channels_first,
    channels_last,
)
from app.models.segmenter import Segmenter, joined_head


def _bias(layer: nn.Module) -> Tensor:
    """Give the bias of a layer that has one."""
    return cast("Tensor", layer.bias)


def _fold_decoder(decoder: LinearDecoder) -> list[nn.Conv3d]:
    """Reduce lateral, fusion and classifier to one product per scale, organs minus background."""
    classify = decoder.classifier.weight.flatten(1)  # (2, 64)
    difference = classify[1] - classify[0]  # (64,)
    per_group = decoder.fusion.weight.flatten(1)  # (64, 4): what each output sees of the 256
    fused = (difference[:, None] * per_group).flatten()  # (256,): weight of each lateral channel
    background, organs = _bias(decoder.classifier)
    offset = organs - background + difference @ _bias(decoder.fusion)
    folded: list[nn.Conv3d] = []
    laterals = cast("list[nn.Conv3d]", list(decoder.laterals))
    for lateral, weight in zip(laterals, fused.split(DECODER_WIDTH), strict=True):
        conv = nn.Conv3d(lateral.in_channels, 1, kernel_size=1, bias=not folded)
        conv.weight.copy_((weight @ lateral.weight.flatten(1)).view_as(conv.weight))
        offset = offset + weight @ _bias(lateral)
        folded.append(conv)
    _bias(folded[0]).copy_(offset)
    return folded


class SteppedInstanceNorm(nn.Module):
    """Instance norm that sums along rows first, then over the rows.

    OpenVINO sums a channel in one float32 accumulator; over the tens of thousands
    of equal voxels of the air around a body its error grows to 1e-4. Short sums
    lose nothing. The reshape between them keeps OpenVINO from joining them.

    Parameters
    ----------
    eps : float
        Added to the variance.
    channel_axis : int
        1 for (N, C, Z, Y, X), 4 for (N, Z, Y, X, C).
    """

    def __init__(self, eps: float, channel_axis: int) -> None:
        super().__init__()
        self.eps = eps
        self.z_axis = 2 if channel_axis == 1 else 1

    def _mean(self, x: Tensor) -> Tensor:
        z = self.z_axis
        rows = x.mean(z + 2).flatten(z, z + 1)  # (N, C, Z Y) or (N, Z Y, C)
        return rows.mean(z)[(..., *[None] * 3) if z == 2 else (slice(None), *[None] * 3)]

    def forward(self, x: Tensor) -> Tensor:
        """Map a tensor to the same shape."""
        centered = x - self._mean(x)
        return centered * torch.rsqrt(self._mean(centered * centered) + self.eps)


def _replace(network: nn.Module, kind: type[nn.Module], make: Callable[[Any], nn.Module]) -> None:
    """Put something else in the place of every module of a kind."""
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, kind):
                setattr(module, name, make(child))


class FoldedLocator(nn.Module):
    """The locator with a folded decoder and one output: logit of organs minus background.

    Parameters
    ----------
    locator : Locator
        The trained network; it is not changed.
    """

    @torch.no_grad()
    def __init__(self, locator: Locator) -> None:
        super().__init__()
        self.locator = copy.deepcopy(locator).eval()
        self.scales = nn.ModuleList(_fold_decoder(self.locator.decoder))
        del self.locator.decoder
        _replace(self.locator, nn.InstanceNorm3d, lambda norm: SteppedInstanceNorm(norm.eps, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map patches (N, 1, Z, Y, X) to logit differences (N, 1, Z, Y, X)."""
        finest, *coarser = (
            scale(feature)
            for scale, feature in zip(self.scales, self.locator.encode(x), strict=True)
        )
        for scores in coarser:
            finest = finest + F.interpolate(scores, size=finest.shape[2:], mode="nearest")
        return F.interpolate(finest, size=x.shape[2:], mode="trilinear", align_corners=True)


def _fold_norm(block: ConvNormAct) -> None:
    conv, norm = block.conv, block.norm
    mean, variance = cast("Tensor", norm.running_mean), cast("Tensor", norm.running_var)
    conv.weight, conv.bias = fuse_conv_bn_weights(
        conv.weight, conv.bias, mean, variance, norm.eps, norm.weight, norm.bias
    )
    block.norm = nn.Identity()  # type: ignore[assignment]


class FoldedModulation(nn.Module):
    """Scale-aware modulation without shuffling channels.

    The three heads are read and mixed by layers of their own, so that nothing has to be
    split, and interleaved channels become columns of the mixing matrix.

    Parameters
    ----------
    modulation : ScaleAwareModulation
        The trained layer; its parts are used.
    """

    def __init__(self, modulation: ScaleAwareModulation) -> None:
        super().__init__()
        size, num_heads = modulation.head_size, len(modulation.convs)
        self.sources = nn.ModuleList(
            _linear(weight, bias)
            for weight, bias in zip(
                modulation.source.weight.split(size),
                modulation.source.bias.split(size),
                strict=True,
            )
        )
        self.convs = modulation.convs
        mixing = modulation.mix_heads.dense_weight()  # column g * 3 + k is channel g of head k
        by_head = mixing.unflatten(1, (size, num_heads)).transpose(1, 2).flatten(1)
        self.mix_heads = _linear(by_head, modulation.mix_heads.bias)
        self.norm = modulation.norm
        self.mix_channels = modulation.mix_channels
        self.value = modulation.value
        self.project = modulation.project

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, Z, Y, X, C) to the same shape."""
        heads = [
            conv(channels_first(source(x)))
            for source, conv in zip(self.sources, self.convs, strict=True)
        ]  # 3 × (N, C/3, Z, Y, X)
        scales = self.mix_heads(channels_last(torch.cat(heads, dim=1)))  # (N, Z, Y, X, 2C)
        modulator = self.mix_channels(F.gelu(self.norm(scales)))  # (N, Z, Y, X, C)
        projected: Tensor = self.project(modulator * self.value(x))
        return projected


class FoldedFeedForward(nn.Module):
    """Feed-forward layer whose shortcut past the convolution is part of its kernel.

    Parameters
    ----------
    feed_forward : FeedForward
        The trained layer; its parts are used and changed.
    """

    def __init__(self, feed_forward: FeedForward) -> None:
        super().__init__()
        self.expand = feed_forward.expand
        self.conv = feed_forward.conv
        self.conv.weight[:, :, 1, 1, 1] += 1
        self.reduce = feed_forward.reduce

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, Z, Y, X, C) to the same shape."""
        h = channels_last(self.conv(channels_first(self.expand(x))))  # (N, Z, Y, X, 2C)
        reduced: Tensor = self.reduce(F.gelu(h))
        return reduced


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.weight.copy_(weight)
    layer.bias.copy_(bias)
    return layer


def _dense_conv(conv: DepthwiseConv3d) -> nn.Conv3d:
    """Write a grouped convolution of several channels each as a dense one.

    It multiplies by many zeros and is faster all the same: engines have no kernel for
    groups of two.
    """
    channels, per_group, depth, height, width = conv.weight.shape
    dense = nn.Conv3d(
        channels * per_group,
        channels,
        (depth, height, width),
        padding=(depth // 2, height // 2, width // 2),
    )
    eye = torch.eye(channels)[:, :, None, None, None, None]
    dense.weight.copy_((conv.weight[:, None] * eye).flatten(1, 2))  # (C, C r, z, y, x)
    _bias(dense).copy_(_bias(conv))
    return dense


def _fold_head(enlarge: nn.ConvTranspose3d, classify: nn.Conv3d) -> nn.ConvTranspose3d:
    """Make one layer of the transposed convolution and the classifier after it."""
    weight, bias = joined_head(enlarge, classify)
    head = nn.ConvTranspose3d(enlarge.in_channels, classify.out_channels, 2, stride=2)
    head.weight.copy_(weight)
    _bias(head).copy_(bias)
    return head


@torch.no_grad()
def fold_segmenter(segmenter: Segmenter) -> Segmenter:
    """Give a copy of the segmenter that computes the same with fewer layers.

    Parameters
    ----------
    segmenter : Segmenter
        The trained network; it is not changed.

    Returns
    -------
    Segmenter
        In evaluation mode. Batch norm is gone, ``enlarge`` gives the logits and
        ``classify`` is the identity.
    """
    folded = copy.deepcopy(segmenter).eval()
    for module in list(folded.modules()):
        if isinstance(module, ConvNormAct):
            _fold_norm(module)
            if module.conv.weight.shape[1] > 1:
                module.conv = _dense_conv(module.conv)  # type: ignore[assignment]
    _replace(folded, ScaleAwareModulation, FoldedModulation)
    _replace(folded, FeedForward, FoldedFeedForward)
    _replace(folded, InstanceNorm, lambda norm: SteppedInstanceNorm(norm.eps, 4))
    folded.enlarge = _fold_head(folded.enlarge, folded.classify)
    folded.classify = nn.Identity()  # type: ignore[assignment]
    return folded
