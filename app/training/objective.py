"""What a training step minimizes."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from monai.losses.dice import DiceCELoss
from monai.networks.utils import one_hot
from torch import Tensor, nn

from app.models.segmenter import Segmenter
from app.training.config import NO_SMOOTHING, TrainingConfig

AUXILIARY_WEIGHT = 0.5

NEVER = -1e4
"""Logit of a class that cannot be; finite, so that no gradient becomes NaN."""


def marginalize(logits: Tensor, labeled: Tensor) -> Tensor:
    """Let background stand for itself or for any organ that nobody looked for.

    Where a label map does not speak of the spleen, its background is "background or
    spleen". The probability of that is the sum of both, so their logits are merged;
    the spleen's own channel can then win nowhere and costs nothing.

    Parameters
    ----------
    logits : (N, C, Z, Y, X) tensor of float32
        Background first.
    labeled : (N, C) tensor of bool
        The classes that each label map speaks of; background always.

    Returns
    -------
    (N, C, Z, Y, X) tensor of float32
        Their softmax is the probability of each label that may stand in the label map.
    """
    unknown = ~labeled[:, :, None, None, None]
    either = unknown.clone()
    either[:, 0] = True
    background = logits.masked_fill(~either, NEVER).logsumexp(dim=1, keepdim=True)
    return torch.cat([background, logits.masked_fill(unknown, NEVER)[:, 1:]], dim=1)


class _SumOverProcesses(torch.autograd.Function):
    """Add up a tensor over all processes, forwards and backwards."""

    @staticmethod
    def forward(context: Any, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        dist.all_reduce(total)
        return total


class SharedDiceLoss(nn.Module):
    """Soft Dice over the batches of all processes that train together.

    Dice over a batch is no mean over its patches, so the processes share their sums
    before the ratio is taken. Alone, this is MONAI's ``DiceLoss(to_onehot_y=True,
    softmax=True, include_background=False, batch=True)``.

    Parameters
    ----------
    smoothing : float
        See :class:`OverlapAndEntropy`.
    """

    def __init__(self, smoothing: float = NO_SMOOTHING) -> None:
        super().__init__()
        self.smoothing = smoothing

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Map (N, C, Z, Y, X) logits and (N, 1, Z, Y, X) labels to a scalar."""
        found = logits.softmax(dim=1)[:, 1:]
        wanted = one_hot(labels, num_classes=logits.shape[1])[:, 1:]
        over = (0, 2, 3, 4)
        sums = torch.stack([(found * wanted).sum(over), found.sum(over) + wanted.sum(over)])
        overlap, held = _SumOverProcesses.apply(sums)  # type: ignore[no-untyped-call]
        missed: Tensor = 1 - (2 * overlap + self.smoothing) / (held + self.smoothing)
        return missed.mean()


class OverlapAndEntropy(nn.Module):
    """The published loss: soft Dice over the organs plus cross-entropy, 1 : 1.

    Dice is taken over the whole batch, so that an organ absent from one patch does
    not count as missed there.

    Parameters
    ----------
    smoothing : float
        Voxels added above and below the fraction. Without them the Dice of an organ that is in
        no patch of the batch is 0 however little of it is found: its gradient vanishes, and
        false specks cost nothing but their cross-entropy. With ``s`` of them, ``h`` false
        voxels cost ``h / (h + s)``, which falls as specks shrink.
    """

    def __init__(self, smoothing: float = NO_SMOOTHING) -> None:
        super().__init__()
        self.alone = DiceCELoss(
            to_onehot_y=True,
            softmax=True,
            include_background=False,
            batch=True,
            smooth_nr=smoothing,
            smooth_dr=smoothing,
        )
        self.shared = SharedDiceLoss(smoothing)

    def forward(self, logits: Tensor, labels: Tensor, labeled: Tensor | None = None) -> Tensor:
        """Map logits and labels to a scalar; see :func:`marginalize` for ``labeled``."""
        if labeled is not None and not labeled.all():
            logits = marginalize(logits, labeled)
        if not dist.is_initialized():
            alone: Tensor = self.alone(logits, labels)
            return alone
        shared: Tensor = self.shared(logits, labels)
        return shared + F.cross_entropy(logits, labels[:, 0])


class Objective(nn.Module):
    """Loss of a network's logits.

    Parameters
    ----------
    stride : int
        The loss looks at every so-manieth voxel along each axis.
    smoothing : float
        See :class:`OverlapAndEntropy`.
    """

    def __init__(self, stride: int = 1, smoothing: float = NO_SMOOTHING) -> None:
        super().__init__()
        self.stride = stride
        self.loss = OverlapAndEntropy(smoothing)

    def forward(
        self, model: nn.Module, images: Tensor, labels: Tensor, labeled: Tensor | None = None
    ) -> Tensor:
        """Map (N, 1, Z, Y, X) images and labels to a scalar."""
        step = slice(None, None, self.stride)
        seen = (slice(None), slice(None), step, step, step)
        loss: Tensor = self.loss(model(images)[seen].float(), labels[seen], labeled)
        return loss


class DeepSupervision(nn.Module):
    """Loss of the segmenter's logits and of what its coarser skips alone can tell.

    The decoder mixes no channels, so that the gradient reaches the deep stages
    through few paths. A linear classifier on each coarser skip teaches them
    directly; it is thrown away after training. It begins at zero, so that none of what
    passes for a gradient before it has learnt anything reaches weights that are trained already.

    Parameters
    ----------
    widths : sequence of int
        Channels of the encoder's stages.
    num_classes : int
        Classes, background included.
    smoothing : float
        See :class:`OverlapAndEntropy`. The coarser stages do without: a few of their voxels
        are a whole adrenal gland.
    """

    def __init__(
        self, widths: Sequence[int], num_classes: int, smoothing: float = NO_SMOOTHING
    ) -> None:
        super().__init__()
        self.loss = OverlapAndEntropy(smoothing)
        self.coarse_loss = OverlapAndEntropy()
        self.heads = nn.ModuleList(nn.Conv3d(width, num_classes, 1) for width in widths[1:])
        for parameter in self.heads.parameters():
            nn.init.zeros_(parameter)

    def forward(
        self, model: nn.Module, images: Tensor, labels: Tensor, labeled: Tensor | None = None
    ) -> Tensor:
        """Map (N, 1, Z, Y, X) images and labels to a scalar."""
        if not isinstance(model, Segmenter):
            raise TypeError(f"deep supervision needs a Segmenter, got {type(model).__name__}")
        skips = model.encoder(images)
        total: Tensor = self.loss(model.decode(skips).float(), labels, labeled)
        for head, skip in zip(self.heads, skips[1:], strict=True):
            stride = labels.shape[-1] // skip.shape[-1]
            # The coarse voxel's middle; a vote would cost more and tell little else.
            middle = slice(stride // 2, None, stride)
            seen = labels[:, :, middle, middle, middle]
            auxiliary = self.coarse_loss(head(skip).float(), seen, labeled)
            total = total + AUXILIARY_WEIGHT / len(self.heads) * auxiliary
        return total


def make_objective(model: nn.Module, widths: Sequence[int], config: TrainingConfig) -> nn.Module:
    """Choose deep supervision for the segmenter, the plain loss otherwise."""
    if isinstance(model, Segmenter):
        return DeepSupervision(widths, model.classify.out_channels, config.dice_smoothing)
    return Objective(config.loss_stride, config.dice_smoothing)
