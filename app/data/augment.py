"""How a training example is varied: boxes, patches, mirror images, turns, brightness.

Examples are dictionaries, as MONAI's transforms take them:

- ``image``, (1, Z, Y, X) tensor of float32: network input;
- ``label``, (1, Z, Y, X) tensor of uint8: organ values;
- ``labeled``, (14,) tensor of bool: the classes that the label map speaks of.
"""

import math
from collections.abc import Hashable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from monai.transforms import (
    CenterSpatialCropd,
    Compose,
    EnsureTyped,
    Lambdad,
    MapTransform,
    RandAffined,
    RandCropByPosNegLabeld,
    Randomizable,
    RandomizableTransform,
    RandRotate90d,
    RandScaleIntensityd,
    RandShiftIntensityd,
    RandSpatialCropd,
    SpatialPadd,
)
from torch import Tensor

from app.config import PhaseConfig
from app.imaging.crop import bounding_box, widen
from app.imaging.geometry import Box, IndexZYX, SpacingZYX
from app.imaging.intensity import INPUT_LIMIT
from app.imaging.preprocess import AIR
from app.labels import mirrored_values

LOCATED_MARGIN_MM: SpacingZYX = (10.0, 10.0, 10.0)
"""Room that phase one leaves around the organs, (z, y, x); tests hold it to the runtime's."""

FACE_JITTER_MM = 15.0
"""How far a face of phase one's box may lie from where it should, in mm."""

PROBABILITY = 0.1
TURN_RAD = math.radians(12.0)
SCALE = 0.1
BRIGHTNESS = 0.1
FOREGROUND_PARTS, BACKGROUND_PARTS = 5, 1

BOTH = ("image", "label")
Example = dict[Hashable, Any]


class RandMirrord(RandomizableTransform, MapTransform):
    """Turn a body into its mirror image, left organs into right ones.

    The mirror image of a right kidney is a left kidney, whichever of the three axes
    the mirror stands across: two mirrors make a turn, and a turn exchanges nothing.

    Parameters
    ----------
    prob : float
        How often.
    """

    def __init__(self, prob: float = PROBABILITY) -> None:
        MapTransform.__init__(self, BOTH)
        RandomizableTransform.__init__(self, prob)
        self.axis = 0

    def randomize(self, data: Any | None = None) -> None:
        """Draw whether to mirror and across which axis."""
        super().randomize(data)
        self.axis = self.R.randint(3)

    def __call__(self, data: Mapping[Hashable, Any]) -> Example:
        """Mirror image and label map, and exchange what is known about left and right."""
        self.randomize()
        return mirror(data, self.axis) if self._do_transform else dict(data)


def mirror(data: Mapping[Hashable, Any], axis: int) -> Example:
    """Mirror one example across axis 0, 1 or 2 for z, y or x."""
    partner = torch.tensor(mirrored_values())
    flipped: Example = {key: torch.flip(torch.as_tensor(data[key]), (axis + 1,)) for key in BOTH}
    label = partner.to(flipped["label"].dtype)[flipped["label"].long()]
    return {**data, **flipped, "label": label, "labeled": torch.as_tensor(data["labeled"])[partner]}


class CutLocatedBoxd(Randomizable, MapTransform):
    """Cut out the region that phase one might have handed on.

    Each face of the box around the organs has the runtime's margin, give or take a
    jitter of its own, so that phase two learns on boxes that are as wrong as those
    it will get.

    Parameters
    ----------
    spacing_mm : (z, y, x) floats
        Spacing of the examples, in mm.
    least_shape : (z, y, x) ints
        The region is grown to this size where the scan allows, as in use.
    rim : (z, y, x) ints
        Voxels added all around, for turning patches without a black edge.
    jitter_mm : float
        Largest error of a face, in mm.
    """

    def __init__(
        self,
        spacing_mm: SpacingZYX,
        least_shape: IndexZYX,
        rim: IndexZYX = (0, 0, 0),
        jitter_mm: float = FACE_JITTER_MM,
    ) -> None:
        MapTransform.__init__(self, BOTH)
        self.spacing_mm = spacing_mm
        self.least_shape = least_shape
        self.rim = rim
        self.jitter_mm = jitter_mm
        self.error_mm = np.zeros((2, 3))

    def randomize(self, data: Any | None = None) -> None:
        """Draw the error of each of the six faces."""
        self.error_mm = self.R.uniform(-self.jitter_mm, self.jitter_mm, (2, 3))

    def __call__(self, data: Mapping[Hashable, Any]) -> Example:
        """Cut image and label map alike; without any organ they stay whole."""
        self.randomize()
        organs = np.asarray(data["label"][0]) > 0
        if not organs.any():
            return dict(data)
        margin = (np.array(LOCATED_MARGIN_MM) + self.error_mm) / self.spacing_mm
        box = _grow(bounding_box(organs, self.spacing_mm), np.rint(margin).astype(int))
        box = _grow(widen(_clip(box, organs.shape), self.least_shape, organs.shape), self.rim)
        region = (slice(None), *_clip(box, organs.shape).slices)
        return {**data, **{key: data[key][region] for key in BOTH}}


def located_region(
    organs: np.ndarray[Any, np.dtype[np.bool_]], phase: PhaseConfig, patch_shape: IndexZYX
) -> Box:
    """Give all of a scan that phase two may ever be shown of it in training.

    Parameters
    ----------
    organs : (Z, Y, X) array of bool
        On the phase's grid; at least one voxel.
    phase : PhaseConfig
        Gives the spacing.
    patch_shape : (z, y, x) ints
        Size of the training patches, in voxels.

    Returns
    -------
    Box
        Of ``organs``.
    """
    reach = (np.array(LOCATED_MARGIN_MM) + FACE_JITTER_MM) / phase.spacing_mm
    box = _grow(bounding_box(organs, phase.spacing_mm), np.ceil(reach).astype(int))
    box = widen(_clip(box, organs.shape), patch_shape, organs.shape)
    return _clip(_grow(box, _rim(patch_shape)), organs.shape)


def segment_transforms(phase: PhaseConfig, patch_shape: IndexZYX, num_patches: int) -> Compose:
    """Make phase two's patches of a scan: several, most of them centered on an organ.

    Parameters
    ----------
    phase : PhaseConfig
        Gives the spacing.
    patch_shape : (z, y, x) ints
        Size of a patch, in voxels.
    num_patches : int
        Patches a scan.

    Returns
    -------
    Compose
        Maps an example to a list of examples.
    """
    rim = _rim(patch_shape)
    z, y, x = (size + 2 * edge for size, edge in zip(patch_shape, rim, strict=True))
    return Compose(
        [
            CutLocatedBoxd(phase.spacing_mm, patch_shape, rim),
            _pad((z, y, x)),
            RandCropByPosNegLabeld(
                BOTH,
                label_key="label",
                spatial_size=(z, y, x),
                pos=FOREGROUND_PARTS,
                neg=BACKGROUND_PARTS,
                num_samples=num_patches,
            ),
            *_turns(),
            CenterSpatialCropd(BOTH, patch_shape),
            *_brightness(),
        ]
    )


def locate_transforms(patch_shape: IndexZYX) -> Compose:
    """Make phase one's volume of a scan: all of it, or as much as a patch holds.

    Parameters
    ----------
    patch_shape : (z, y, x) ints
        Size of the volume, in voxels.

    Returns
    -------
    Compose
        Maps an example to an example whose label is 1 in any organ.
    """
    return Compose(
        [
            *_turns(),
            _pad(patch_shape),
            RandSpatialCropd(BOTH, patch_shape, random_size=False),
            Lambdad("label", _any_organ),
            *_brightness(),
        ]
    )


def _rim(patch_shape: IndexZYX) -> IndexZYX:
    """Voxels around a patch that come into view when it is turned and shrunk.

    In-plane the two sizes are made equal on the way, so that quarter turns fit.
    """
    longest = max(patch_shape[1:])
    turned = (math.cos(TURN_RAD) + math.sin(TURN_RAD)) * (1 + SCALE) * longest
    z = math.ceil(patch_shape[0] * SCALE / 2)
    y, x = (math.ceil((turned - size) / 2) for size in patch_shape[1:])
    return (z, y, x)


def _turns() -> list[Any]:
    """Mirror images, quarter turns, small turns about the slice axis, changes of size.

    Meanwhile air is 0, because that is what comes in from beyond the edge.
    """
    return [
        RandMirrord(PROBABILITY),
        RandRotate90d(BOTH, prob=PROBABILITY, max_k=3, spatial_axes=(1, 2)),
        Lambdad("image", _above_air),
        RandAffined(
            BOTH,
            prob=PROBABILITY,
            rotate_range=(TURN_RAD, 0.0, 0.0),
            scale_range=(SCALE, SCALE, SCALE),
            mode=("bilinear", "nearest"),
            padding_mode="zeros",
        ),
        Lambdad("image", partial(torch.add, other=AIR)),
    ]


def _brightness() -> list[Any]:
    """Change contrast and brightness; what leaves the window is clipped, as in use."""
    return [
        RandScaleIntensityd("image", factors=BRIGHTNESS, prob=PROBABILITY),
        RandShiftIntensityd("image", offsets=BRIGHTNESS, prob=PROBABILITY),
        Lambdad("image", partial(torch.clamp, min=-INPUT_LIMIT, max=INPUT_LIMIT)),
        # Turning leaves labels as float32; patches of one batch must be alike.
        EnsureTyped(BOTH, dtype=(torch.float32, torch.uint8), track_meta=False),
    ]


def _above_air(image: Tensor) -> Tensor:
    """Make air 0, and undo the half precision that examples are kept in."""
    return image.float() - AIR


def _pad(shape: IndexZYX) -> Compose:
    """Let air surround what is smaller than a patch."""
    return Compose(
        [
            SpatialPadd("image", shape, mode="constant", value=AIR),
            SpatialPadd("label", shape, mode="constant", value=0),
        ]
    )


def _any_organ(label: Tensor) -> Tensor:
    return (label > 0).to(label.dtype)


def _grow(box: Box, voxels: Any) -> Box:
    """Move all faces out by (z, y, x) voxels, or by those of each face, shape (2, 3)."""
    before, after = np.broadcast_to(voxels, (2, 3))
    return Box.between(np.subtract(box.start, before), np.add(box.stop, after))


def _clip(box: Box, shape: IndexZYX) -> Box:
    """Give what a box and a volume have in common, at least a voxel along each axis."""
    start = np.minimum(np.maximum(box.start, 0), np.subtract(shape, 1))
    stop = np.maximum(np.minimum(box.stop, shape), start + 1)
    return Box.between(start.tolist(), stop.tolist())
