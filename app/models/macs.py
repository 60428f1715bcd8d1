"""Count what a network computes."""

from typing import Any

import torch
from torch import Tensor, nn

from app.models.modulation import GroupedLinear, SelfAttention


def _layer_macs(layer: nn.Module, x: Tensor, y: Tensor) -> int:
    """Count the multiply-adds of one layer for a batch of one."""
    match layer:
        case nn.ConvTranspose3d():
            return x.numel() * layer.weight[0].numel()
        case nn.Conv3d():
            return y.numel() * layer.weight[0].numel()
        case nn.Linear():
            return y.numel() * layer.in_features
        case GroupedLinear():
            return y.numel() * layer.weight.shape[2]
        case SelfAttention():
            tokens = x.shape[1] * x.shape[2] * x.shape[3]
            return 2 * tokens * tokens * x.shape[4]  # queries by keys, weights by values
    return 0


def count_macs(network: nn.Module, patch_shape: tuple[int, int, int]) -> int:
    """Count the multiply-adds of one patch.

    Convolutions, linear layers and attention are counted, element-wise work is not.

    Parameters
    ----------
    network : nn.Module
        Takes (1, 1, Z, Y, X).
    patch_shape : (z, y, x) ints
        Size of the patch, in voxels.

    Returns
    -------
    int
    """
    total = 0

    def add(layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        nonlocal total
        total += _layer_macs(layer, inputs[0], output)

    hooks = [module.register_forward_hook(add) for module in network.modules()]
    with torch.no_grad():
        network(torch.zeros(1, 1, *patch_shape))
    for hook in hooks:
        hook.remove()
    return total
