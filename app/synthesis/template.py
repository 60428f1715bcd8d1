"""Whole bodies to borrow surroundings from: 117 labeled tissues made into a tissue map.

The two bodies have bones, deep muscles, lungs, bowel and vessels, but no wall of
the trunk, no fat and no skin. The wall is built here, once; fat and skin are built
around each new body in :mod:`app.synthesis.body`.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from app.imaging.geometry import BoolVolume, FloatVolume, LabelVolume, SpacingZYX
from app.synthesis.fields import distance_mm, smooth_noise
from app.synthesis.fit import Landmarks, find_landmarks, tube_centers
from app.synthesis.lungs import join_lungs
from app.synthesis.tissues import Tissue
from app.synthesis.whole_body import (
    ORGAN_NAMES,
    SPACING_MM,
    WholeBody,
    extend_upwards,
    num_vertebrae,
    read_bodies,
)

_BY_PREFIX = {
    "lung_": Tissue.LUNG,
    "trachea": Tissue.AIRWAY,
    "autochthon_": Tissue.MUSCLE,
    "gluteus_": Tissue.MUSCLE,
    "iliopsoas_": Tissue.MUSCLE,
    "heart": Tissue.MYOCARDIUM,
    "atrial_": Tissue.HEART_BLOOD,
    "pulmonary_": Tissue.HEART_BLOOD,
    "brachiocephalic_trunk": Tissue.ARTERY,
    "common_carotid_": Tissue.ARTERY,
    "subclavian_": Tissue.ARTERY,
    "iliac_artery_": Tissue.ARTERY,
    "brachiocephalic_vein_": Tissue.VEIN,
    "iliac_vena_": Tissue.VEIN,
    "superior_vena_cava": Tissue.VEIN,
    "portal_vein": Tissue.PORTAL_VEIN,
    "prostate": Tissue.PELVIC_SOFT_TISSUE,
    "thyroid": Tissue.PELVIC_SOFT_TISSUE,
    "urinary_bladder": Tissue.URINE,
    "spinal_cord": Tissue.SPINAL_CANAL,
    "costal_cartilages": Tissue.CARTILAGE,
}

_BONES = ("rib_", "vertebrae_", "sacrum", "hip_", "femur_", "sternum", "scapula_", "clavicula_")

_TRUNK_WALL = (
    "rib_",
    "sternum",
    "costal_",
    "autochthon_",
    "gluteus_",
    "hip_",
    "sacrum",
    "scapula_",
    "clavicula_",
    "vertebrae_",
)

_VISCERA = (
    *ORGAN_NAMES,
    "lung_",
    "heart",
    "colon",
    "small_bowel",
    "urinary_bladder",
    "prostate",
    "pulmonary_",
    "superior_vena_cava",
    "trachea",
    "brachiocephalic_",
    "portal_vein",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """A whole body without fat and skin.

    Parameters
    ----------
    name : str
        Which body it was made from.
    tissues : (Z, Y, X) array of uint8
        Tissue values at 1.5 mm, LPS; AIR outside the muscles of the trunk. Bowel
        is wall and content, without gas.
    organs : (Z, Y, X) array of uint8
        The 13 organs on the same grid.
    landmarks : Landmarks
        Where these organs lie.
    """

    name: str
    tissues: LabelVolume
    organs: LabelVolume
    landmarks: Landmarks


def build_templates(folder: Path) -> tuple[Template, ...]:
    """Make a template of each whole body in a folder.

    A body whose scan ends at the heart borrows the chest of the body that reaches
    highest, fitted to it.

    Parameters
    ----------
    folder : Path
        Holds ``*_tissues.nii.gz`` and ``tissues.json``.

    Returns
    -------
    tuple of Template
        In the order of the file names.
    """
    bodies = read_bodies(folder)
    tallest = max(bodies.values(), key=num_vertebrae)
    return tuple(
        build_template(body if body is tallest else extend_upwards(body, tallest))
        for body in bodies.values()
    )


def build_template(body: WholeBody) -> Template:
    """Turn a label map of 117 tissues into a template.

    Parameters
    ----------
    body : WholeBody
        At 1.5 mm, LPS.

    Returns
    -------
    Template
        Padded by 30 mm in-plane, so that the wall has room.
    """
    pad = round(30.0 / SPACING_MM[1])
    labels = np.pad(body.labels, ((0, 0), (pad, pad), (pad, pad)))
    body = WholeBody(body.name, labels, body.ids, body.seam)
    cavity, trunk = trunk_wall(body)
    tissues = np.where(trunk, np.uint8(Tissue.MUSCLE), np.uint8(Tissue.AIR))
    tissues[_fat_planes(body, trunk & ~cavity)] = Tissue.FAT
    tissues[cavity] = Tissue.MESENTERY
    soft = body.lookup(_BY_PREFIX)
    tissues[soft > 0] = soft[soft > 0]
    _add_heart(tissues, body)
    _add_bowel(tissues, body)
    _add_bones(tissues, body)
    organs = body.lookup(ORGAN_NAMES)
    tissues[organs > 0] = organs[organs > 0]
    if body.seam is not None:
        join_lungs(tissues, slice(body.seam - 12, body.seam + 30))
    _add_lung_vessels(tissues)
    return Template(
        name=body.name,
        tissues=tissues,
        organs=organs,
        landmarks=find_landmarks(organs, SPACING_MM),
    )


def _closed(mask: BoolVolume, radius_mm: float, spacing_mm: SpacingZYX) -> BoolVolume:
    """Close a mask slice by slice with a large disc; the array's rim counts as outside."""
    margin = int(np.ceil(radius_mm / spacing_mm[1])) + 2
    closed = np.zeros_like(mask)
    for z, plane in enumerate(mask):
        if plane.any():
            wide = np.pad(plane, margin)
            grown = ndimage.distance_transform_edt(~wide) * spacing_mm[1] <= radius_mm
            inner = ndimage.distance_transform_edt(grown) * spacing_mm[1] > radius_mm
            closed[z] = inner[margin:-margin, margin:-margin]
    return closed


def _smooth(mask: BoolVolume, sigma_mm: float, spacing_mm: SpacingZYX) -> BoolVolume:
    sigma = [sigma_mm / step for step in spacing_mm]
    blurred: FloatVolume = ndimage.gaussian_filter(mask.astype(np.float32), sigma, mode="nearest")
    return blurred > 0.5


def trunk_wall(body: WholeBody) -> tuple[BoolVolume, BoolVolume]:
    """Build the cavity that holds the viscera and the muscular trunk around it.

    Worked out on every third voxel: the wall is smooth, and large discs are slow.

    Returns
    -------
    cavity, trunk : (Z, Y, X) arrays of bool
        The cavity lies inside the trunk.
    """
    coarse: SpacingZYX = (SPACING_MM[0] * 3, SPACING_MM[1] * 3, SPACING_MM[2] * 3)
    shrink = (slice(1, None, 3),) * 3
    small = WholeBody(body.name, np.ascontiguousarray(body.labels[shrink]), body.ids)
    viscera = small.mask(_VISCERA)
    lined = viscera | small.mask(("iliopsoas_", "iliac_"))
    frame = small.mask(_TRUNK_WALL)
    cavity = _smooth(_closed(lined, 45.0, coarse), 6.0, coarse) | viscera
    cavity &= distance_mm(frame, coarse) > 2.0
    wall = _closed((distance_mm(viscera, coarse) < 12.0) | frame, 60.0, coarse)
    wall |= distance_mm(frame, coarse) < 7.0
    wall |= distance_mm(small.mask(("femur_",)), coarse) < 38.0
    trunk = _smooth(wall, 8.0, coarse) | (distance_mm(viscera | frame, coarse) < 4.0)
    cavity |= _flanks(small, trunk, coarse) & (distance_mm(frame, coarse) > 2.0)
    cavity &= _depth_in_slice(trunk, coarse) > 7.0
    return _enlarge(cavity & trunk, body.labels.shape), _enlarge(trunk, body.labels.shape)


def _depth_in_slice(mask: BoolVolume, spacing_mm: SpacingZYX) -> FloatVolume:
    """Give each voxel's depth below the border of its slice's mask, in mm; 0 outside."""
    depth = np.zeros(mask.shape, np.float32)
    for z, plane in enumerate(mask):
        padded = ndimage.distance_transform_edt(np.pad(plane, 1), sampling=spacing_mm[1:])
        depth[z] = padded[1:-1, 1:-1]
    return depth


def _flanks(body: WholeBody, trunk: BoolVolume, spacing_mm: SpacingZYX) -> BoolVolume:
    """Find the room inside the abdominal wall, where fat lies around kidneys and colon."""
    lungs = np.flatnonzero(body.mask(("lung_",)).any((1, 2)))
    hips = np.flatnonzero(body.mask(("hip_",)).any((1, 2)))
    crest = hips[-1] if len(hips) else 0
    top = len(trunk)
    if len(lungs):
        top = min(top, lungs[0] + round(30.0 / spacing_mm[0]))
    back = _closed(
        body.mask(("vertebrae_", "autochthon_", "spinal_cord", "sacrum")), 20.0, spacing_mm
    )
    depth = _depth_in_slice(trunk, spacing_mm)
    # Below the iliac crest the wall thickens into the muscles of the buttocks.
    below_crest_mm = np.maximum(0, crest - np.arange(len(trunk))) * spacing_mm[0]
    room = depth > 13.0 + 0.6 * below_crest_mm[:, None, None]
    room[top:] = False
    return room & ~back


def _enlarge(mask: BoolVolume, shape: tuple[int, ...]) -> BoolVolume:
    """Bring a mask of every third voxel back to full size, with a smooth border."""
    grown: FloatVolume = ndimage.zoom(
        mask.astype(np.float32), 3, order=1, grid_mode=True, mode="nearest"
    )
    short = [(0, max(0, size - have)) for size, have in zip(shape, grown.shape, strict=True)]
    grown = np.pad(grown, short, mode="edge")
    return grown[tuple(slice(size) for size in shape)] > 0.5


def _fat_planes(body: WholeBody, wall: BoolVolume) -> BoolVolume:
    """Choose thin sheets of fat between the muscles around pelvis, spine and shoulders."""
    rng = np.random.default_rng(1)
    sheets = np.abs(smooth_noise(body.labels.shape, SPACING_MM, 35.0, rng)) < 0.09
    return sheets & wall


def _add_heart(tissues: LabelVolume, body: WholeBody) -> None:
    """Fill the heart with blood, leaving its wall and a septum."""
    heart = body.mask(("heart",))
    region = ndimage.find_objects(heart.view(np.uint8))
    if not region:
        return
    inside = heart[region[0]]
    depth = ndimage.distance_transform_edt(np.pad(inside, 1), sampling=SPACING_MM)[1:-1, 1:-1, 1:-1]
    _, y, x = np.indices(inside.shape, dtype=np.float32)
    center_y, center_x = (size / 2 for size in inside.shape[1:])
    # The septum runs obliquely from behind right to front left.
    septum = np.abs((x - center_x) * 0.7 + (y - center_y) * 0.7) * SPACING_MM[1] < 5.0
    tissues[region[0]][(depth > 7.0) & ~septum] = Tissue.HEART_BLOOD


def _add_lung_vessels(tissues: LabelVolume) -> None:
    """Thread vessels through the lungs: where two random sheets cross, a vessel runs."""
    rng = np.random.default_rng(3)
    first, second = (smooth_noise(tissues.shape, SPACING_MM, 22.0, rng) for _ in range(2))
    crossing = first**2 + second**2 < 0.11**2
    tissues[crossing & (tissues == Tissue.LUNG)] = Tissue.ARTERY
    strands = np.abs(second) < 0.05
    tissues[strands & (first > 0.5) & (tissues == Tissue.MESENTERY)] = Tissue.VEIN


def _add_bowel(tissues: LabelVolume, body: WholeBody) -> None:
    """Give colon and small bowel a wall; folds divide the small bowel into loops."""
    colon, small = body.mask(("colon",)), body.mask(("small_bowel",))
    folds = np.abs(smooth_noise(colon.shape, SPACING_MM, 28.0, np.random.default_rng(2))) < 0.14
    for mask, wall, content, shell in (
        (colon, Tissue.COLON_WALL, Tissue.STOOL, 1),
        (small, Tissue.BOWEL_WALL, Tissue.BOWEL_CONTENT, 1),
    ):
        inner = ndimage.binary_erosion(mask, iterations=shell)
        tissues[mask] = wall
        tissues[inner] = content
    tissues[small & folds] = Tissue.BOWEL_WALL


def _add_bones(tissues: LabelVolume, body: WholeBody) -> None:
    """Give bones a cortex, the spine its discs and its canal."""
    bones, spine = body.mask(_BONES), body.mask(("vertebrae_", "sacrum"))
    cord = body.mask(("spinal_cord",))
    canal = ndimage.binary_dilation(cord, iterations=3) & ~spine
    tissues[canal] = Tissue.SPINAL_CANAL
    closed = ndimage.binary_closing(spine, np.ones((9, 3, 3), bool))
    front = np.zeros_like(spine)
    centers = tube_centers(cord.astype(np.uint8), 1, (1.0, 1.0, 1.0))[:, 1]
    for z, center in enumerate(centers):
        if not np.isnan(center):
            front[z, : int(center) - 5] = True
    tissues[closed & ~spine & front & ~canal] = Tissue.DISC
    tissues[bones] = Tissue.CORTICAL_BONE
    tissues[ndimage.binary_erosion(bones)] = Tissue.TRABECULAR_BONE
    shafts = body.mask(("femur_",))
    shafts[round(60 / SPACING_MM[0]) :] = False
    tissues[shafts & ~ndimage.binary_erosion(shafts, iterations=3)] = Tissue.CORTICAL_BONE
