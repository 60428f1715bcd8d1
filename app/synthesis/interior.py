"""What is inside hollow and layered organs: walls, contents, gas, renal medulla.

Every part belongs to its organ: ``ORGAN_OF_TISSUE`` of a filled organ is the organ.
"""

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from app.imaging.geometry import BoolVolume, LabelVolume, SpacingZYX
from app.synthesis.fields import smooth_noise
from app.synthesis.tissues import Tissue


def depth_mm(mask: BoolVolume, spacing_mm: SpacingZYX) -> npt.NDArray[np.float32]:
    """Give each voxel's depth below the surface of a mask, in mm; 0 outside."""
    padded = np.pad(mask, 1)
    depth = ndimage.distance_transform_edt(padded, sampling=spacing_mm)
    inner: npt.NDArray[np.float32] = depth[1:-1, 1:-1, 1:-1].astype(np.float32)
    return inner


def beside(mask: BoolVolume) -> BoolVolume:
    """Mark the voxels that share an in-plane face with a mask, and the mask's own."""
    near = mask.copy()
    near[:, 1:] |= mask[:, :-1]
    near[:, :-1] |= mask[:, 1:]
    near[:, :, 1:] |= mask[:, :, :-1]
    near[:, :, :-1] |= mask[:, :, 1:]
    return near


def fill_organs(tissues: LabelVolume, spacing_mm: SpacingZYX, rng: np.random.Generator) -> None:
    """Give the organs their inner parts, in place.

    Parameters
    ----------
    tissues : (Z, Y, X) array of uint8
        Tissue map whose organs are solid.
    spacing_mm : (z, y, x) floats
        Voxel spacing, in mm.
    rng : numpy Generator
    """
    for organ, region in enumerate(ndimage.find_objects(tissues, max_label=13), start=1):
        if region is None:
            continue
        part = tissues[region]
        mask = part == organ
        if organ == Tissue.LIVER:
            _fill_liver(part, mask, spacing_mm, rng)
        elif organ == Tissue.STOMACH:
            _fill_stomach(part, mask, spacing_mm, rng)
        elif organ == Tissue.DUODENUM:
            _fill_duodenum(part, mask, spacing_mm, rng)
        elif organ == Tissue.ESOPHAGUS:
            _fill_esophagus(part, mask, spacing_mm, rng)
        elif organ in (Tissue.RIGHT_KIDNEY, Tissue.LEFT_KIDNEY):
            _fill_kidney(part, mask, organ, spacing_mm, rng)
    fill_bowel(tissues, spacing_mm, rng)


def _fill_liver(
    part: LabelVolume, mask: BoolVolume, spacing_mm: SpacingZYX, rng: np.random.Generator
) -> None:
    """Thread vessels through the liver: where two random sheets cross, a vessel runs."""
    first, second = (smooth_noise(mask.shape, spacing_mm, 34.0, rng) for _ in range(2))
    inner = ndimage.binary_erosion(mask, iterations=3)
    part[inner & (first**2 + second**2 < rng.uniform(0.1, 0.16) ** 2)] = Tissue.LIVER_VESSEL


def _fill_stomach(
    part: LabelVolume, mask: BoolVolume, spacing_mm: SpacingZYX, rng: np.random.Generator
) -> None:
    """Put food below and gas above a level; gas rises to the front of a lying patient."""
    if rng.random() < 0.08:
        return  # collapsed: wall against wall
    shell = rng.uniform(2.0, 5.0) + 0.8 * smooth_noise(mask.shape, spacing_mm, 25.0, rng)
    lumen = depth_mm(mask, spacing_mm) > shell
    part[lumen] = Tissue.STOMACH_CONTENT
    if lumen.any() and rng.random() < 0.8:
        heights = np.flatnonzero(lumen.any((0, 2)))
        level = np.quantile(heights, rng.choice([rng.uniform(0.05, 0.45), rng.uniform(0.4, 0.95)]))
        gas = lumen & (np.arange(mask.shape[1])[None, :, None] < level)
        part[gas] = Tissue.STOMACH_GAS


def _fill_duodenum(
    part: LabelVolume, mask: BoolVolume, spacing_mm: SpacingZYX, rng: np.random.Generator
) -> None:
    """Open the duodenum in stretches; some hold a bubble at the front."""
    shell = rng.uniform(2.0, 4.0) + smooth_noise(mask.shape, spacing_mm, 18.0, rng)
    lumen = depth_mm(mask, spacing_mm) > shell
    part[lumen] = Tissue.DUODENUM_CONTENT
    if rng.random() < 0.5:
        bubbles = smooth_noise(mask.shape, spacing_mm, 20.0, rng) > rng.uniform(0.3, 1.5)
        part[lumen & bubbles & _front_half(lumen)] = Tissue.DUODENUM_GAS


def _front_half(lumen: BoolVolume) -> BoolVolume:
    """Mark the front half of a lumen, line by line from front to back."""
    count = lumen.cumsum(1)
    half: BoolVolume = lumen & (2 * count <= count[:, -1:] + 1)
    return half


def _fill_esophagus(
    part: LabelVolume, mask: BoolVolume, spacing_mm: SpacingZYX, rng: np.random.Generator
) -> None:
    """Put air into stretches of the esophagus."""
    if rng.random() < 0.5:
        return
    stretch = smooth_noise(mask.shape, spacing_mm, 40.0, rng) > rng.uniform(0.0, 1.0)
    lumen = depth_mm(mask, spacing_mm) > rng.uniform(3.0, 5.0)
    part[lumen & stretch] = Tissue.ESOPHAGUS_GAS


def _fill_kidney(
    part: LabelVolume,
    mask: BoolVolume,
    organ: int,
    spacing_mm: SpacingZYX,
    rng: np.random.Generator,
) -> None:
    """Set the medulla's pyramids into the cortex, with columns of cortex between."""
    medulla = (
        Tissue.RIGHT_KIDNEY_MEDULLA if organ == Tissue.RIGHT_KIDNEY else Tissue.LEFT_KIDNEY_MEDULLA
    )
    columns = smooth_noise(mask.shape, spacing_mm, 10.0, rng)
    inner = depth_mm(mask, spacing_mm) > rng.uniform(4.0, 7.0) + 1.5 * np.maximum(columns, -1.0)
    part[inner] = medulla


def fill_bowel(tissues: LabelVolume, spacing_mm: SpacingZYX, rng: np.random.Generator) -> None:
    """Put gas into colon and small bowel, in place.

    Parameters
    ----------
    tissues : (Z, Y, X) array of uint8
        Holds STOOL and BOWEL_CONTENT as lumen.
    spacing_mm : (z, y, x) floats
        Voxel spacing, in mm.
    rng : numpy Generator
    """
    for content, threshold in (
        (Tissue.STOOL, rng.uniform(-0.6, 1.0)),
        (Tissue.BOWEL_CONTENT, rng.uniform(0.8, 2.2)),
    ):
        lumen = tissues == content
        lines = lumen.any(1)
        if not lines.any():
            continue
        box_z, box_x = (np.flatnonzero(lines.any(axis)) for axis in (1, 0))
        region = (slice(box_z[0], box_z[-1] + 1), slice(None), slice(box_x[0], box_x[-1] + 1))
        part = lumen[region]
        filled = smooth_noise(part.shape, spacing_mm, 45.0, rng) > threshold
        tissues[region][part & filled & _front_of_loop(part, rng.uniform(0.3, 1.0))] = (
            Tissue.BOWEL_GAS
        )


def _front_of_loop(lumen: BoolVolume, share: float) -> BoolVolume:
    """Mark the given share of each run of lumen along y, from its front."""
    index = np.arange(lumen.shape[1], dtype=np.int16)[None, :, None]
    start = np.maximum.accumulate(np.where(lumen, np.int16(-1), index), axis=1)
    backwards = np.where(lumen, np.int16(lumen.shape[1]), index)[:, ::-1]
    stop = np.minimum.accumulate(backwards, axis=1)[:, ::-1]
    front: BoolVolume = lumen & ((index - start) <= share * (stop - start - 1))
    return front
