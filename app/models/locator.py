"""Phase one's network: partial-convolution encoder, all-linear decoder.

Finds the abdomen on a coarse scan. 1,367,618 parameters, 1.002 GMAC at 128³.

References
----------
Chen et al., "Run, Don't Walk: Chasing Higher FLOPS for Faster Neural Networks"
(FasterNet, partial convolution), CVPR 2023.
Xie et al., "SegFormer", NeurIPS 2021 (all-linear decoder).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from app.config import PhaseConfig

DECODER_WIDTH = 64
MAX_DROP_PATH = 0.1


class PartialConv(nn.Module):
    """Convolve the first quarter of the channels and pass the others through."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mixed = channels // 4
        self.conv = nn.Conv3d(self.mixed, self.mixed, kernel_size=3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, Z, Y, X) to the same shape."""
        mixed, kept = x.split([self.mixed, x.shape[1] - self.mixed], dim=1)
        return torch.cat([self.conv(mixed), kept], dim=1)


class DropPath(nn.Module):
    """Drop a residual branch for whole samples while training."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, Z, Y, X) to the same shape; the identity in evaluation."""
        if not self.training or self.probability == 0.0:
            return x
        keep = 1.0 - self.probability
        kept = x.new_empty((x.shape[0], 1, 1, 1, 1)).bernoulli_(keep)
        return x * kept / keep


class PartialBlock(nn.Module):
    """Partial convolution followed by a two-layer perceptron, with a shortcut."""

    def __init__(self, channels: int, drop_path: float) -> None:
        super().__init__()
        self.partial_conv = PartialConv(channels)
        self.expand = nn.Conv3d(channels, 2 * channels, kernel_size=1, bias=False)
        self.norm = nn.InstanceNorm3d(2 * channels)
        self.reduce = nn.Conv3d(2 * channels, channels, kernel_size=1, bias=False)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, Z, Y, X) to the same shape."""
        y = self.expand(self.partial_conv(x))  # (N, 2C, Z, Y, X)
        y = self.reduce(F.relu(self.norm(y)))  # (N, C, Z, Y, X)
        return x + self.drop_path(y)


class LinearDecoder(nn.Module):
    """Bring all scales to the finest one, concatenate, fuse and classify.

    There is nothing non-linear in it, so :mod:`app.models.fold` replaces it by
    one 1×1×1 convolution per scale for inference.
    """

    def __init__(self, widths: tuple[int, ...], num_classes: int) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(nn.Conv3d(width, DECODER_WIDTH, 1) for width in widths)
        self.fusion = nn.Conv3d(
            len(widths) * DECODER_WIDTH, DECODER_WIDTH, kernel_size=1, groups=DECODER_WIDTH
        )
        self.classifier = nn.Conv3d(DECODER_WIDTH, num_classes, kernel_size=1)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Map four scales, shallow first, to logits (N, classes, Z/4, Y/4, X/4)."""
        finest = features[0].shape[2:]
        scales = [
            F.interpolate(lateral(feature), size=finest, mode="nearest")
            for lateral, feature in zip(self.laterals, features, strict=True)
        ]
        return self.classifier(self.fusion(torch.cat(scales, dim=1)))


class Locator(nn.Module):
    """Tell organs from everything else on a coarse scan.

    Parameters
    ----------
    config : PhaseConfig
        Widths, depths and number of classes.
    """

    def __init__(self, config: PhaseConfig) -> None:
        super().__init__()
        widths, depths = config.widths, config.depths
        self.downs = nn.ModuleList()
        self.stages = nn.ModuleList()
        rates = torch.linspace(0, MAX_DROP_PATH, sum(depths)).tolist()
        channels_in = 1
        for index, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            stride = 4 if index == 0 else 2
            self.downs.append(
                nn.Sequential(
                    nn.Conv3d(channels_in, width, kernel_size=stride, stride=stride, bias=False),
                    nn.InstanceNorm3d(width),
                )
            )
            self.stages.append(
                nn.Sequential(*(PartialBlock(width, rates.pop(0)) for _ in range(depth)))
            )
            channels_in = width
        self.norms = nn.ModuleList(nn.InstanceNorm3d(width) for width in widths)
        self.decoder = LinearDecoder(widths, len(config.class_names))

    def encode(self, x: Tensor) -> list[Tensor]:
        """Map (N, 1, Z, Y, X) to the normalized outputs of the four stages, shallow first."""
        features = []
        for down, stage, norm in zip(self.downs, self.stages, self.norms, strict=True):
            x = stage(down(x))  # at 128³: (N, 32, 32³), (N, 64, 16³), (N, 128, 8³), (N, 256, 4³)
            features.append(norm(x))
        return features

    def forward(self, x: Tensor) -> Tensor:
        """Map normalized patches (N, 1, Z, Y, X) to logits (N, classes, Z, Y, X)."""
        logits = self.decoder(self.encode(x))  # (N, classes, Z/4, Y/4, X/4)
        return F.interpolate(logits, size=x.shape[2:], mode="trilinear", align_corners=True)
