"""Phase two's network: convolution-transformer encoder, LACB decoder.

Segments 13 organs in a fine patch. 9,373,994 parameters, 25.54 GMAC per 96³.
The encoder works channels-last, the decoder channels-first; both see the same
memory.
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from app.config import PhaseConfig
from app.models.lacb import LACB, Up
from app.models.modulation import (
    Block,
    InstanceNorm,
    ScaleAwareModulation,
    SelfAttention,
    channels_first,
    channels_last,
)

STEM_WIDTH = 30


class Stem(nn.Module):
    """Halve the patch and lift it to the first stage's width."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.shrink = nn.Conv3d(1, STEM_WIDTH, kernel_size=3, stride=2, padding=1, bias=False)
        self.norm_shrink = InstanceNorm()
        self.lift = nn.Conv3d(STEM_WIDTH, channels, kernel_size=1, groups=STEM_WIDTH)
        self.norm = nn.LayerNorm(channels, eps=1e-5)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 1, Z, Y, X) to (N, Z/2, Y/2, X/2, C)."""
        x = F.relu(self.norm_shrink(channels_last(self.shrink(x))))  # (N, Z/2, Y/2, X/2, 30)
        # Output channels 2g and 2g + 1 see input channel g alone: a product, not a convolution.
        weight = self.lift.weight.flatten()  # (C,)
        x = x.repeat_interleave(self.lift.out_channels // STEM_WIDTH, dim=-1)
        return self.norm(x * weight + cast("Tensor", self.lift.bias))  # (N, Z/2, Y/2, X/2, C)


class Embed(nn.Module):
    """Halve the size and double the channels between two stages."""

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(channels_in, channels, kernel_size=3, stride=2, padding=1)
        self.norm = nn.LayerNorm(channels, eps=1e-5)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, Z, Y, X, C) to (N, Z/2, Y/2, X/2, 2C)."""
        return self.norm(channels_last(self.conv(channels_first(x))))


def _mixer(stage: int, block: int, channels: int) -> nn.Module:
    """Choose modulation where the grid is fine, attention where it is coarse."""
    attends = stage == 3 or (stage == 2 and block % 2 == 1)
    return SelfAttention(channels) if attends else ScaleAwareModulation(channels)


class Encoder(nn.Module):
    """Four stages, each at half the size of the one before."""

    def __init__(self, widths: tuple[int, ...], depths: tuple[int, ...]) -> None:
        super().__init__()
        self.embeds = nn.ModuleList([Stem(widths[0])])
        self.embeds.extend(Embed(*pair) for pair in zip(widths, widths[1:], strict=False))
        self.stages = nn.ModuleList(
            nn.Sequential(*(Block(width, _mixer(stage, block, width)) for block in range(depth)))
            for stage, (width, depth) in enumerate(zip(widths, depths, strict=True))
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width, eps=1e-6) for width in widths)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map (N, 1, Z, Y, X) to four skips (N, C, ·, ·, ·), finest first.

        At 96³: 60×48³, 120×24³, 240×12³, 480×6³.
        """
        skips = []
        for embed, stage, norm in zip(self.embeds, self.stages, self.norms, strict=True):
            x = norm(stage(embed(x)))
            skips.append(channels_first(x))
        return skips


class Decoder(nn.Module):
    """From the coarsest skip back to the finest."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.bottom = LACB(widths[-1], widths[-1])
        finer = widths[-2::-1]
        self.ups = nn.ModuleList(Up(width) for width in finer)
        self.fusions = nn.ModuleList(LACB(2 * width, width) for width in finer)

    def forward(self, skips: list[Tensor]) -> Tensor:
        """Map the encoder's skips to (N, C, Z, Y, X) on the finest skip's grid."""
        coarsest, *finer = reversed(skips)
        x = self.bottom(coarsest)  # (N, 480, 6³) for a 96³ patch
        for up, fusion, skip in zip(self.ups, self.fusions, finer, strict=True):
            x = fusion(
                torch.cat([up(x), skip], dim=1)
            )  # (N, 240, 12³), (N, 120, 24³), (N, 60, 48³)
        return x


class Segmenter(nn.Module):
    """Segment the abdominal organs in a patch.

    Parameters
    ----------
    config : PhaseConfig
        Widths, depths and number of classes.
    """

    def __init__(self, config: PhaseConfig) -> None:
        super().__init__()
        finest = config.widths[0]
        self.encoder = Encoder(config.widths, config.depths)
        self.decoder = Decoder(config.widths)
        self.enlarge = nn.ConvTranspose3d(finest, STEM_WIDTH, kernel_size=2, stride=2)
        self.classify = nn.Conv3d(STEM_WIDTH, len(config.class_names), kernel_size=1)
        self.apply(_initialize)

    def forward(self, x: Tensor) -> Tensor:
        """Map normalized patches (N, 1, Z, Y, X) to logits (N, classes, Z, Y, X)."""
        return self.decode(self.encoder(x))

    def decode(self, skips: list[Tensor]) -> Tensor:
        """Map the encoder's skips to logits (N, classes, Z, Y, X)."""
        x = self.decoder(skips)  # (N, 60, Z/2, Y/2, X/2)
        if self.training:
            # Both at once: the features between them are the network's largest tensor.
            weight, bias = joined_head(self.enlarge, self.classify)
            return F.conv_transpose3d(x, weight, bias, stride=2)
        return self.classify(self.enlarge(x))  # (N, classes, Z, Y, X)


def joined_head(enlarge: nn.ConvTranspose3d, classify: nn.Conv3d) -> tuple[Tensor, Tensor]:
    """Join the transposed convolution and the classifier after it.

    Parameters
    ----------
    enlarge, classify : ConvTranspose3d, Conv3d
        The segmenter's.

    Returns
    -------
    weight : (C, classes, 2, 2, 2) tensor
        Of the transposed convolution that gives the logits.
    bias : (classes,) tensor
    """
    matrix = classify.weight.flatten(1)  # (classes, 30)
    weight = torch.einsum("om,imzyx->iozyx", matrix, enlarge.weight)
    return weight, matrix @ cast("Tensor", enlarge.bias) + cast("Tensor", classify.bias)


def _initialize(module: nn.Module) -> None:
    """Start linear layers small, as transformers are; convolutions keep PyTorch's default."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
