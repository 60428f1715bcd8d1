"""Depthwise 3-D convolution whose backward pass is fast on a CPU.

PyTorch's backward of a depthwise 5³ or 7³ convolution takes a hundred times as
long as its forward on a CPU, and is nearly all of a training step. Both
gradients are convolutions themselves: that of the input is a forward
convolution with the flipped kernel, that of the weight correlates input and
output gradient, shift by shift of the kernel: along channels for small kernels,
along rows for large ones, whose every plane of voxels is read many times. On
other devices PyTorch's own kernels are used.
"""

from collections.abc import Sequence
from typing import Any, cast

import numba
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

Kernel = tuple[int, int, int]

MOST_SHIFTS_ALONG_CHANNELS = 9
"""In a plane; of more, turning the tensors around costs less than it saves."""


@numba.njit(parallel=True, fastmath=True, cache=True)
def _correlate_channels(padded, grad, out) -> None:  # type: ignore[no-untyped-def]
    """Sum, for each kernel shift and channel, shifted input times gradient.

    padded is (N, Z+kz-1, Y+ky-1, X+kx-1, C), grad (N, Z, Y, X, C), out (kz, ky, kx, C).
    """
    num, depth, height, width, channels = grad.shape
    kz, ky, kx, _ = out.shape
    for job in numba.prange(kz * ky):
        i, j = job // ky, job % ky
        sums = np.zeros((kx, channels), grad.dtype)
        for n in range(num):
            for z in range(depth):
                for y in range(height):
                    for x in range(width):
                        for k in range(kx):
                            for c in range(channels):
                                sums[k, c] += (
                                    grad[n, z, y, x, c] * padded[n, z + i, y + j, x + k, c]
                                )
        out[i, j] = sums


@numba.njit(parallel=True, fastmath=True, cache=True)
def _correlate_rows(padded, grad, out) -> None:  # type: ignore[no-untyped-def]
    """Add, for each channel and kernel shift, shifted input times gradient.

    padded is (N, C, Z+kz-1, Y+ky-1, X+kx-1), out (C, kz, ky, kx) of zeros. grad is
    (N, C, Z, Y (X+kx-1)): rows as long as those of padded, zero beyond X, one after the
    other, so that a shift within the plane is one step along the whole plane. Three shifts
    at a time read the gradient once, and their sums stay in registers.
    """
    num, channels, depth, length = grad.shape
    _, kz, ky, kx = out.shape
    planes = padded.reshape(num, channels, depth + kz - 1, -1)
    row = padded.shape[4]
    count = length - (kx - 1)  # the last of them are zero and would look past the plane
    zero = grad.dtype.type(0)
    for c in numba.prange(channels):
        for n in range(num):
            for z in range(depth):
                g = grad[n, c, z, :count]
                for i in range(kz):
                    for j in range(ky):
                        from_row = planes[n, c, z + i, j * row :]
                        k = 0
                        while k + 3 <= kx:
                            first = from_row[k : k + count]
                            second = from_row[k + 1 : k + 1 + count]
                            third = from_row[k + 2 : k + 2 + count]
                            sum1, sum2, sum3 = zero, zero, zero
                            for at in range(count):
                                sum1 += g[at] * first[at]
                                sum2 += g[at] * second[at]
                                sum3 += g[at] * third[at]
                            out[c, i, j, k] += sum1
                            out[c, i, j, k + 1] += sum2
                            out[c, i, j, k + 2] += sum3
                            k += 3
                        for last in range(k, kx):
                            only = from_row[last : last + count]
                            sum1 = zero
                            for at in range(count):
                                sum1 += g[at] * only[at]
                            out[c, i, j, last] += sum1


def _padding(kernel: Sequence[int]) -> Kernel:
    """Pad so that the size is kept."""
    z, y, x = (size // 2 for size in kernel)
    return (z, y, x)


def weight_gradient(x: Tensor, grad: Tensor, kernel: Kernel) -> Tensor:
    """Compute the gradient of a depthwise convolution's weight on a CPU.

    Parameters
    ----------
    x : (N, C, Z, Y, X) tensor of float32 or float64
        The convolution's input.
    grad : (N, C, Z, Y, X) tensor of the same type
        Gradient of the convolution's output.
    kernel : (z, y, x) ints
        Odd kernel size.

    Returns
    -------
    (C, 1, kz, ky, kx) tensor
    """
    pad_z, pad_y, pad_x = _padding(kernel)
    around = [pad_x, pad_x, pad_y, pad_y, pad_z, pad_z]
    if kernel[1] * kernel[2] > MOST_SHIFTS_ALONG_CHANNELS:
        padded = F.pad(x.contiguous(), around).numpy()
        rows = F.pad(grad.contiguous(), [0, 2 * pad_x]).flatten(3).numpy()
        out = np.zeros((x.shape[1], *kernel), padded.dtype)
        _correlate_rows(padded, rows, out)
        return torch.from_numpy(out).unsqueeze(1)
    last = x.permute(0, 2, 3, 4, 1)  # (N, Z, Y, X, C): how the segmenter holds its tensors
    padded = F.pad(last, [0, 0, *around]).contiguous().numpy()
    out = np.empty((*kernel, x.shape[1]), padded.dtype)
    _correlate_channels(padded, grad.permute(0, 2, 3, 4, 1).contiguous().numpy(), out)
    return torch.from_numpy(out).permute(3, 0, 1, 2).unsqueeze(1)


class _DepthwiseConv(torch.autograd.Function):
    """Stride-1 depthwise convolution with padding that keeps the size; always in full precision."""

    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.float32)  # type: ignore[untyped-decorator]
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return F.conv3d(x, weight, padding=_padding(weight.shape[2:]), groups=weight.shape[0])

    @staticmethod
    @torch.amp.custom_bwd(device_type="cpu")  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        (grad,) = grads
        kz, ky, kx = kernel = weight.shape[2:]
        flipped = weight.flip(2, 3, 4)
        grad_x = F.conv3d(grad, flipped, padding=_padding(kernel), groups=weight.shape[0])
        return grad_x, weight_gradient(x, grad, (kz, ky, kx))


class DepthwiseConv3d(nn.Conv3d):
    """Convolution in which each output channel sees its own ``r`` input channels.

    Stride 1, bias, size kept. Output channel ``c`` sees input channels
    ``r c ... r c + r - 1``.

    Parameters
    ----------
    channels_in, channels : int
        Channels in (a multiple ``r`` of those out) and out.
    kernel_size : (z, y, x) ints
        Odd size of the kernel.
    """

    def __init__(self, channels_in: int, channels: int, kernel_size: Kernel) -> None:
        super().__init__(
            channels_in, channels, kernel_size, padding=_padding(kernel_size), groups=channels
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, r C, Z, Y, X) to (N, C, Z, Y, X)."""
        if not (self.training and x.device.type == "cpu"):
            return super().forward(x)
        ratio = self.in_channels // self.out_channels
        parts: list[Tensor] = [
            _DepthwiseConv.apply(x[:, part::ratio], self.weight[:, part : part + 1])  # type: ignore[no-untyped-call]
            for part in range(ratio)
        ]
        return sum(parts[1:], parts[0]) + cast("Tensor", self.bias).view(-1, 1, 1, 1)
