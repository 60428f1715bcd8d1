"""The segmenter's blocks: scale-aware modulation or self-attention, then a feed-forward layer.

Tensors are channels-last, (N, Z, Y, X, C): linear layers and layer norms act on
the last axis, and a convolution sees the same memory through a permuted view.

References
----------
Lin et al., "Scale-Aware Modulation Meet Transformer", ICCV 2023.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from app.models.depthwise import DepthwiseConv3d

MODULATION_KERNELS = (3, 5, 7)
MLP_RATIO = 2
HEAD_SIZE = 30


def channels_first(x: Tensor) -> Tensor:
    """View (N, Z, Y, X, C) as (N, C, Z, Y, X)."""
    return x.permute(0, 4, 1, 2, 3)


def channels_last(x: Tensor) -> Tensor:
    """View (N, C, Z, Y, X) as (N, Z, Y, X, C)."""
    return x.permute(0, 2, 3, 4, 1)


def cubic(channels: int, kernel: int) -> DepthwiseConv3d:
    """Make a depthwise convolution with a cubic kernel."""
    return DepthwiseConv3d(channels, channels, (kernel, kernel, kernel))


class InstanceNorm(nn.Module):
    """Normalize each channel of a channels-last tensor over space, without affine."""

    eps = 1e-5

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, Z, Y, X, C) to the same shape."""
        if self.training:
            # The same of one patch after the other, forwards and back in one pass each.
            patches = [
                F.batch_norm(patch, None, None, training=True, eps=self.eps)
                for patch in channels_first(x).split(1)
            ]
            # Joining copies, and on a CPU there is but one.
            return channels_last(torch.cat(patches) if len(patches) > 1 else patches[0])
        variance, mean = torch.var_mean(x, dim=(1, 2, 3), correction=0, keepdim=True)
        return (x - mean) * torch.rsqrt(variance + self.eps)


class GroupedLinear(nn.Module):
    """A linear layer in which each group of channels sees only itself.

    Runs as one dense product with a block-diagonal matrix, which matrix units
    do faster than many small products.

    Parameters
    ----------
    channels_in, channels : int
        Channels in and out.
    groups : int
        Divides both.
    """

    def __init__(self, channels_in: int, channels: int, groups: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(groups, channels // groups, channels_in // groups))
        self.bias = nn.Parameter(torch.zeros(channels))
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)

    def dense_weight(self) -> Tensor:
        """Give the block-diagonal matrix (channels, channels_in)."""
        groups, rows, columns = self.weight.shape
        eye = torch.eye(groups, dtype=self.weight.dtype, device=self.weight.device)
        blocks = self.weight[:, :, None, :] * eye[:, None, :, None]  # (g, rows, g, columns)
        return blocks.reshape(groups * rows, groups * columns)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., channels_in) to (..., channels)."""
        return F.linear(x, self.dense_weight(), self.bias)


class ScaleAwareModulation(nn.Module):
    """Weigh values by features of three receptive fields."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.head_size = channels // len(MODULATION_KERNELS)
        self.value = nn.Linear(channels, channels)
        self.source = nn.Linear(channels, channels)
        self.convs = nn.ModuleList(cubic(self.head_size, kernel) for kernel in MODULATION_KERNELS)
        self.mix_heads = GroupedLinear(channels, 2 * channels, groups=self.head_size)
        self.norm = InstanceNorm()
        self.mix_channels = nn.Linear(2 * channels, channels)
        self.project = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, Z, Y, X, C) to the same shape."""
        heads = self.source(x).split(self.head_size, dim=-1)  # 3 × (N, Z, Y, X, C/3)
        heads = [
            channels_last(conv(channels_first(head)))
            for conv, head in zip(self.convs, heads, strict=True)
        ]
        scales = torch.stack(heads, dim=-1).flatten(-2)  # (N, Z, Y, X, C): g of heads 0, 1, 2
        scales = F.gelu(self.norm(self.mix_heads(scales)))  # (N, Z, Y, X, 2C)
        modulator = self.mix_channels(scales)  # (N, Z, Y, X, C)
        return self.project(modulator * self.value(x))


class SelfAttention(nn.Module):
    """Attend globally over all tokens, and add a depthwise convolution of the values."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.num_heads = channels // HEAD_SIZE
        self.query = nn.Linear(channels, channels)
        self.key_value = nn.Linear(channels, 2 * channels)
        self.conv = cubic(channels, 3)
        self.project = nn.Linear(channels, channels)

    def _heads(self, x: Tensor) -> Tensor:
        tokens = x.flatten(1, 3).unflatten(-1, (self.num_heads, HEAD_SIZE))
        return tokens.transpose(1, 2)  # (N, heads, Z Y X, 30)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, Z, Y, X, C) to the same shape."""
        key, value = self.key_value(x).chunk(2, dim=-1)  # 2 × (N, Z, Y, X, C)
        attended = F.scaled_dot_product_attention(
            self._heads(self.query(x)), self._heads(key), self._heads(value)
        )  # (N, heads, Z Y X, 30)
        attended = attended.transpose(1, 2).reshape(x.shape)  # (N, Z, Y, X, C)
        local = channels_last(self.conv(channels_first(value)))  # (N, Z, Y, X, C)
        return self.project(attended + local)


class FeedForward(nn.Module):
    """Two linear layers with a depthwise convolution between them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = MLP_RATIO * channels
        self.expand = nn.Linear(channels, hidden)
        self.conv = cubic(hidden, 3)
        self.reduce = nn.Linear(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, Z, Y, X, C) to the same shape."""
        h = self.expand(x)  # (N, Z, Y, X, 2C)
        h = F.gelu(h + channels_last(self.conv(channels_first(h))))  # (N, Z, Y, X, 2C)
        return self.reduce(h)


class Block(nn.Module):
    """Pre-norm block: mixer, then feed-forward, each with a shortcut."""

    def __init__(self, channels: int, mixer: nn.Module) -> None:
        super().__init__()
        self.norm_mixer = nn.LayerNorm(channels, eps=1e-6)
        self.mixer = mixer
        self.norm_feed_forward = nn.LayerNorm(channels, eps=1e-6)
        self.feed_forward = FeedForward(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, Z, Y, X, C) to the same shape."""
        x = x + self.mixer(self.norm_mixer(x))
        return x + self.feed_forward(self.norm_feed_forward(x))
