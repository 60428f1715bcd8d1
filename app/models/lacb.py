"""The segmenter's decoder: light asymmetric convolution blocks with a gate.

Kernels are (z, y, x): (3, 1, 1) runs along the slices, (1, 3, 3) within one.

References
----------
Zhao et al., "LCOV-Net: A lightweight neural network for COVID-19 pneumonia
lesion segmentation from 3D CT images", ISBI 2021 (light asymmetric
convolutions with attention).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from app.models.depthwise import DepthwiseConv3d, Kernel


class ConvNormAct(nn.Module):
    """Grouped convolution, batch norm, ReLU6."""

    def __init__(self, channels_in: int, channels: int, kernel: Kernel) -> None:
        super().__init__()
        self.conv = DepthwiseConv3d(channels_in, channels, kernel)
        self.norm = nn.BatchNorm3d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, r C, Z, Y, X) to (N, C, Z, Y, X)."""
        return F.relu6(self.norm(self.conv(x)))


class LACB(nn.Module):
    """Fuse along the slices, refine within them, and gate."""

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        self.fuse = ConvNormAct(channels_in, channels, (3, 1, 1))
        self.refine = ConvNormAct(channels, channels, (1, 3, 3))
        self.gate = ConvNormAct(channels, channels, (1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, r C, Z, Y, X) to (N, C, Z, Y, X)."""
        fused = self.fuse(x)
        return self.refine(fused) + torch.sigmoid(self.gate(fused)) * fused


class Up(nn.Module):
    """Halve the channels and double the size."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce = ConvNormAct(2 * channels, channels, (1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 2C, Z, Y, X) to (N, C, 2Z, 2Y, 2X)."""
        return F.interpolate(
            self.reduce(x), scale_factor=2.0, mode="trilinear", align_corners=False
        )
