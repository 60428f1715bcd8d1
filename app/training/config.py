"""What a training run is."""

from dataclasses import dataclass

from app.config import LOCATE, SEGMENT
from app.errors import UsageError
from app.imaging.geometry import IndexZYX

NO_SMOOTHING = 1e-5
"""Keeps 0 / 0 from the Dice of an organ that is neither there nor found; else without effect."""

OPTIMIZERS = ("adamw", "muon")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingConfig:
    """One stage of training.

    Parameters
    ----------
    steps : int
        Optimizer steps of the stage.
    patch_shape : (z, y, x) ints
        Size of the training patches, in voxels.
    batch_size : int
        Patches a step.
    optimizer : "adamw" or "muon"
        See :mod:`app.training.optimizer`.
    learning_rate, final_learning_rate : float
        Peak of the cosine schedule and where it ends.
    warmup_steps : int
        Steps over which the rate rises to its peak.
    weight_decay : float
        The optimizer's.
    ema_decay : float
        Share of the averaged weights that a step keeps.
    max_gradient_norm : float
        Longer gradients are shortened to this.
    checkpoint_every_s : float
        Seconds between checkpoints; what a kill can cost.
    log_every : int
        Steps between lines of the curve.
    loss_stride : int
        The loss looks at every so-manieth voxel along each axis. The locator's logits are
        interpolated from a grid four times coarser, so every second voxel tells all.
    dice_smoothing : float
        Voxels added above and below the Dice's fraction, so that specks of an organ that no
        patch of the batch shows are unlearned; see
        :class:`~app.training.objective.OverlapAndEntropy`.
    mixed_precision : bool
        Run matrix products in bfloat16, where the machine is faster in it than in float32.
    seed : int
        Start of all random streams.
    patches_per_scan : int
        With scans from disk: patches that phase two takes from a scan it has read.
    validate_every : int
        With scans from disk: steps between validations on what is held out; 0 for none.
    real_share : float
        With a bank and real scans: share of the patches that are of those, above 0, below 1.

    Raises
    ------
    UsageError
        If a number is out of range.
    """

    steps: int
    patch_shape: IndexZYX
    batch_size: int
    optimizer: str = "adamw"
    learning_rate: float = 3.5e-4
    final_learning_rate: float = 1e-5
    warmup_steps: int = 60
    weight_decay: float = 1e-5
    ema_decay: float = 0.999
    max_gradient_norm: float = 1.0
    checkpoint_every_s: float = 180.0
    log_every: int = 25
    loss_stride: int = 1
    dice_smoothing: float = NO_SMOOTHING
    mixed_precision: bool = True
    seed: int = 0
    patches_per_scan: int = 1
    validate_every: int = 0
    real_share: float = 0.1

    def __post_init__(self) -> None:
        """Check that the numbers make sense together."""
        if min(self.steps, self.batch_size, self.patches_per_scan, *self.patch_shape) < 1:
            raise UsageError("steps, batch, patches per scan and patch sizes must be at least 1")
        for name, is_right, expected in (
            ("learning_rate", self.learning_rate > 0, "above 0"),
            ("final_learning_rate", self.final_learning_rate >= 0, "at least 0"),
            ("warmup_steps", self.warmup_steps >= 0, "at least 0"),
            ("weight_decay", self.weight_decay >= 0, "at least 0"),
            ("ema_decay", 0 <= self.ema_decay < 1, "at least 0 and below 1"),
            ("max_gradient_norm", self.max_gradient_norm > 0, "above 0"),
            ("log_every", self.log_every >= 1, "at least 1"),
            ("loss_stride", self.loss_stride >= 1, "at least 1"),
            ("validate_every", self.validate_every >= 0, "at least 0"),
            ("seed", self.seed >= 0, "at least 0"),
        ):
            if not is_right:  # nor is NaN
                raise UsageError(
                    f"{name} {getattr(self, name)} is out of range: {expected} expected"
                )
        if self.optimizer not in OPTIMIZERS:
            raise UsageError(
                f"optimizer {self.optimizer!r} is not known: {' or '.join(OPTIMIZERS)}"
            )
        if self.dice_smoothing <= 0:
            raise UsageError("the Dice's smoothing must be above 0: it keeps 0 / 0 from the loss")
        if not 0 < self.real_share < 1:
            raise UsageError(f"real_share {self.real_share} must be above 0 and below 1")
        if self.batch_size % self.patches_per_scan:
            raise UsageError(
                f"a batch of {self.batch_size} patches cannot be drawn "
                f"{self.patches_per_scan} from each scan; choose a multiple"
            )

    def seed_from(self, step: int) -> int:
        """Give the seed of a run from a step on: one that goes on draws what it has not seen."""
        return self.seed + 1_000_003 * step


RECIPES = {
    "locate": TrainingConfig(
        steps=900,
        patch_shape=LOCATE.patch_shape,
        batch_size=2,
        learning_rate=2e-3,
        warmup_steps=200,
        max_gradient_norm=5.0,
        loss_stride=2,
    ),
    "segment": TrainingConfig(
        steps=1600, patch_shape=SEGMENT.patch_shape, batch_size=1, learning_rate=2e-3
    ),
}
"""Where a run starts from. What the weights that come with the program were trained with stands
in their ``training.json``."""

SCAN_RECIPES = {
    "locate": TrainingConfig(
        steps=12_000,
        patch_shape=LOCATE.patch_shape,
        batch_size=8,
        loss_stride=2,
        validate_every=500,
    ),
    "segment": TrainingConfig(
        steps=12_000,
        patch_shape=SEGMENT.patch_shape,
        batch_size=48,
        patches_per_scan=6,
        validate_every=500,
    ),
}
"""Where a run on real scans starts from: the published recipe, on the grids of this project."""
