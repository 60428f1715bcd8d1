"""The scanner's part of a training patch, computed by PyTorch on a device such as a GPU.

:func:`app.synthesis.appearance.scan` does it on processors and is what defines it. Texture, noise,
blur, slices and pixels are all linear along one axis after another there, so that each of them
is a product with a small matrix, which its own code makes here of an identity.
"""

from collections.abc import Iterable, Iterator
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import Tensor

from app.config import PhaseConfig
from app.data.synthetic import UnscannedPatch, as_tensors, network_example
from app.imaging.geometry import IndexZYX, SpacingZYX
from app.imaging.resample import linear_weights, resampled_shape
from app.synthesis.appearance import (
    AIR_HU,
    BRIGHTEST_HU,
    SHADING_MM,
    STREAK_MM,
    Appearance,
    picked,
    pixel_grid,
    slice_grid,
    streak_nodes,
)
from app.synthesis.fields import TRUNCATE, noise_grid, num_nodes


@lru_cache(maxsize=256)
def _blur(size: int, sigma: float, mode: str) -> npt.NDArray[np.float32]:
    """Build the matrix that blurs along an axis."""
    blur: npt.NDArray[np.float32] = ndimage.gaussian_filter1d(
        np.eye(size, dtype=np.float32), sigma, 0, mode=mode, truncate=TRUNCATE
    )
    return blur


@lru_cache(maxsize=256)
def _interpolation(
    num_out: int, step_out: float, num_in: int, step_in: float
) -> npt.NDArray[np.float32]:
    """Build the matrix that interpolates along an axis."""
    weights: npt.NDArray[np.float32] = linear_weights(num_out, step_out, num_in, step_in).toarray()
    return weights


def _along(volume: Tensor, axis: int, matrix: npt.NDArray[np.float32]) -> Tensor:
    """Multiply the lines of a volume along an axis with a matrix."""
    weights = torch.from_numpy(matrix).to(volume.device)
    return (weights @ volume.movedim(axis, -2)).movedim(-2, axis)


def _resample(
    volume: Tensor, spacing_mm: SpacingZYX, new_mm: SpacingZYX, new_shape: IndexZYX
) -> Tensor:
    """Do what :func:`app.imaging.resample.resample_linear` does."""
    for axis, (size, step) in enumerate(zip(new_shape, new_mm, strict=True)):
        if (size, step) != (volume.shape[axis], spacing_mm[axis]):
            weights = _interpolation(size, step, volume.shape[axis], spacing_mm[axis])
            volume = _along(volume, axis, weights)
    return volume


def _shape_of(volume: Tensor) -> IndexZYX:
    z, y, x = volume.shape
    return (z, y, x)


class DeviceScanner:
    """Scans tissue maps on a device.

    Parameters
    ----------
    device : torch.device
        Where to compute.
    seed : int
        Start of texture and noise; they are not those of the same seed on processors.
    """

    def __init__(self, device: torch.device, *, seed: int) -> None:
        self.device = device
        self.randomness = torch.Generator(device).manual_seed(seed)

    def scan(
        self, tissues: Tensor, spacing_mm: SpacingZYX, appearance: Appearance
    ) -> tuple[Tensor, SpacingZYX]:
        """Turn a tissue map into a CT scan with slices of its own.

        Parameters
        ----------
        tissues : (Z, Y, X) tensor of uint8
            :class:`~app.synthesis.tissues.Tissue` values, anywhere.
        spacing_mm : (z, y, x) floats
            Grid of the tissue map, in mm.
        appearance : Appearance
            The scan's look.

        Returns
        -------
        hu : (Z', Y', X') tensor of float32
            HU, clipped to -1024 ... 3071, on the device.
        spacing_mm : (z, y, x) floats
            The scan's grid, in mm; it shares the tissue map's center.
        """
        kinds = tissues.to(self.device).int()
        hu = self._noise(_shape_of(kinds), spacing_mm, appearance.texture_mm)
        hu *= self._table(appearance.texture_hu)[kinds]
        hu += self._table(appearance.hu)[kinds]
        thick = slice_grid(spacing_mm, appearance)
        shape = resampled_shape(_shape_of(hu), spacing_mm, thick)
        hu = self._blurred(_resample(hu, spacing_mm, thick, shape), thick, appearance)
        hu += appearance.noise_hu * self._noise(shape, thick, appearance.noise_mm)
        nodes = self._normal(num_nodes(shape, thick, SHADING_MM))
        node_mm: SpacingZYX = (SHADING_MM, SHADING_MM, SHADING_MM)
        hu += appearance.shading_hu * _resample(nodes, node_mm, thick, shape)
        if appearance.streak_hu:
            nodes = self._normal(streak_nodes(shape, thick[2]))
            across: SpacingZYX = (1.0, 1.0, STREAK_MM)
            hu += appearance.streak_hu * _resample(nodes, across, (1.0, 1.0, thick[2]), shape)
        return self._with_wide_pixels(hu.clip(AIR_HU, BRIGHTEST_HU), thick, appearance)

    def _blurred(self, hu: Tensor, spacing_mm: SpacingZYX, appearance: Appearance) -> Tensor:
        """Blur in-plane, and give back what a sharp kernel gives back."""

        def blur(volume: Tensor) -> Tensor:
            for axis in (1, 2):
                sigma = appearance.blur_mm / spacing_mm[axis]
                volume = _along(volume, axis, _blur(volume.shape[axis], sigma, "reflect"))
            return volume

        blurred = blur(hu)
        if appearance.sharpness:
            blurred = blurred + appearance.sharpness * (blurred - blur(blurred))
        return blurred

    def _with_wide_pixels(
        self, hu: Tensor, spacing_mm: SpacingZYX, appearance: Appearance
    ) -> tuple[Tensor, SpacingZYX]:
        """Resample in-plane as users do before they hand a scan on."""
        wide = pixel_grid(spacing_mm, appearance)
        shape = resampled_shape(_shape_of(hu), spacing_mm, wide)
        if appearance.pixels_averaged:
            return _resample(hu, spacing_mm, wide, shape), wide
        for axis in (1, 2):
            if wide[axis] != spacing_mm[axis]:
                kept = picked(shape[axis], wide[axis], hu.shape[axis], spacing_mm[axis])
                hu = hu.index_select(axis, torch.from_numpy(kept).to(self.device))
        return hu, wide

    def _noise(self, shape: IndexZYX, spacing_mm: SpacingZYX, length_mm: float) -> Tensor:
        """Draw noise of unit variance with a correlation length, in mm."""
        drawn_mm = noise_grid(spacing_mm, length_mm)
        noise = self._normal(resampled_shape(shape, spacing_mm, drawn_mm))
        for axis, step in enumerate(drawn_mm):
            noise = _along(noise, axis, _blur(noise.shape[axis], length_mm / step, "wrap"))
        noise = _resample(noise, drawn_mm, spacing_mm, shape)
        return noise / noise.std().clamp_min(1e-6)

    def _normal(self, shape: IndexZYX) -> Tensor:
        return torch.randn(shape, generator=self.randomness, device=self.device)

    def _table(self, values: npt.NDArray[np.float32]) -> Tensor:
        return torch.from_numpy(values).to(self.device)


class ScannedPatches:
    """Scans batches of patches as they come, in the process that iterates.

    Processes that lay contents and disease need no device so, and the one that trains has it.

    Parameters
    ----------
    batches : iterable of lists of UnscannedPatch
        What to scan.
    config : PhaseConfig
        Grid and intensity window.
    device : torch.device
        Where to compute.
    """

    def __init__(
        self,
        batches: Iterable[list[UnscannedPatch]],
        config: PhaseConfig,
        device: torch.device,
    ) -> None:
        self.batches = batches
        self.config = config
        self.device = device

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (N, 1, Z, Y, X) float32 images and (N, 1, Z, Y, X) int64 labels."""
        for batch in self.batches:
            examples = [self._example(patch) for patch in batch]
            images, labels = zip(*examples, strict=True)
            yield torch.stack(images), torch.stack(labels)

    def _example(self, patch: UnscannedPatch) -> tuple[Tensor, Tensor]:
        scanner = DeviceScanner(self.device, seed=patch.seed)
        hu, scanned_mm = scanner.scan(patch.tissues, patch.spacing_mm, patch.appearance)
        z, y, x = patch.labels.shape
        hu = _resample(hu, scanned_mm, self.config.spacing_mm, (z, y, x))
        # Scaling is the runtime's own code, on the 3.5 MB of a patch of 96³.
        seen = network_example(hu.cpu().numpy(), patch.labels.numpy(), patch.seen, self.config)
        return as_tensors(*seen)
