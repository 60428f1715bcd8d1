"""Exact simplifications of both networks for inference.

Nothing is approximated: a chain of linear layers becomes one, batch norm goes
into the convolution before it, block-diagonal matrices are written out once,
sums are ordered so that they lose nothing.
"""

import copy
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import fuse_conv_bn_weights

from app.models.lacb import ConvNormAct
from app.models.locator import DECODER_WIDTH, LinearDecoder, Locator
from app.models.modulation import GroupedLinear, InstanceNorm
from app.models.segmenter import Segmenter


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


def _fold_group(layer: GroupedLinear) -> nn.Linear:
    weight = layer.dense_weight()
    dense = nn.Linear(weight.shape[1], weight.shape[0])
    dense.weight.copy_(weight)
    dense.bias.copy_(layer.bias)
    return dense


def _fold_head(enlarge: nn.ConvTranspose3d, classify: nn.Conv3d) -> nn.ConvTranspose3d:
    """Join the transposed convolution and the classifier after it."""
    matrix = classify.weight.flatten(1)  # (classes, 30)
    head = nn.ConvTranspose3d(enlarge.in_channels, classify.out_channels, 2, stride=2)
    head.weight.copy_(torch.einsum("om,imzyx->iozyx", matrix, enlarge.weight))
    _bias(head).copy_(matrix @ _bias(enlarge) + _bias(classify))
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
    _replace(folded, GroupedLinear, _fold_group)
    _replace(folded, InstanceNorm, lambda norm: SteppedInstanceNorm(norm.eps, 4))
    folded.enlarge = _fold_head(folded.enlarge, folded.classify)
    folded.classify = nn.Identity()  # type: ignore[assignment]
    return folded
