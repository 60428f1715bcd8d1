"""What a training step minimizes."""

from collections.abc import Sequence

from monai.losses.dice import DiceCELoss
from torch import Tensor, nn

from app.models.segmenter import Segmenter

AUXILIARY_WEIGHT = 0.5


def overlap_and_entropy() -> nn.Module:
    """Make the published loss: soft Dice over the organs plus cross-entropy, 1 : 1.

    Dice is taken over the whole batch, so that an organ absent from one patch does
    not count as missed there.
    """
    return DiceCELoss(to_onehot_y=True, softmax=True, include_background=False, batch=True)


class Objective(nn.Module):
    """Loss of a network's logits.

    Parameters
    ----------
    stride : int
        The loss looks at every so-manieth voxel along each axis.
    """

    def __init__(self, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride
        self.loss = overlap_and_entropy()

    def forward(self, model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        """Map (N, 1, Z, Y, X) images and labels to a scalar."""
        step = slice(None, None, self.stride)
        seen = (slice(None), slice(None), step, step, step)
        loss: Tensor = self.loss(model(images)[seen].float(), labels[seen])
        return loss


class DeepSupervision(nn.Module):
    """Loss of the segmenter's logits and of what its coarser skips alone can tell.

    The decoder mixes no channels, so that the gradient reaches the deep stages
    through few paths. A linear classifier on each coarser skip teaches them
    directly; it is thrown away after training.

    Parameters
    ----------
    widths : sequence of int
        Channels of the encoder's stages.
    num_classes : int
        Classes, background included.
    """

    def __init__(self, widths: Sequence[int], num_classes: int) -> None:
        super().__init__()
        self.loss = overlap_and_entropy()
        self.heads = nn.ModuleList(nn.Conv3d(width, num_classes, 1) for width in widths[1:])

    def forward(self, model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        """Map (N, 1, Z, Y, X) images and labels to a scalar."""
        if not isinstance(model, Segmenter):
            raise TypeError(f"deep supervision needs a Segmenter, got {type(model).__name__}")
        skips = model.encoder(images)
        total: Tensor = self.loss(model.decode(skips).float(), labels)
        for head, skip in zip(self.heads, skips[1:], strict=True):
            stride = labels.shape[-1] // skip.shape[-1]
            # The coarse voxel's middle; a vote would cost more and tell little else.
            middle = slice(stride // 2, None, stride)
            auxiliary = self.loss(head(skip).float(), labels[:, :, middle, middle, middle])
            total = total + AUXILIARY_WEIGHT / len(self.heads) * auxiliary
        return total


def make_objective(model: nn.Module, widths: Sequence[int], stride: int) -> nn.Module:
    """Choose deep supervision for the segmenter, the plain loss otherwise."""
    if isinstance(model, Segmenter):
        return DeepSupervision(widths, model.classify.out_channels)
    return Objective(stride)
