"""Stand-in networks and small scans that tests of several rooms use.

The stand-ins judge each voxel by its brightness alone, so that what is tested is
everything around the networks: geometry, orientation, memory, errors.
"""

import dataclasses
from pathlib import Path

import numpy as np

from app.config import LOCATE, SEGMENT
from app.imaging.io import ScanHeader, Source
from app.imaging.orientation import Orientation
from app.manifest import MODEL_NAME, MODEL_WEIGHTS_NAME, Manifest, checksums

# The intensity window's center, 50 HU, is 0 to a network; 350 HU is 2, -250 HU is -2.
TISSUE_HU = 50
BRIGHT_HU = 350
DARK_HU = -250
BRIGHT_ORGAN = 1
DARK_ORGAN = 3

# Grids of their own, so that expected values do not move with those of the real networks.
SMALL_LOCATE = dataclasses.replace(
    LOCATE, spacing_mm=(4.0, 4.0, 4.0), patch_shape=(32, 64, 32), overlap=0.25
)
SMALL_SEGMENT = dataclasses.replace(
    SEGMENT, spacing_mm=(2.0, 1.5, 1.5), patch_shape=(48, 32, 64), overlap=0.25
)


def locator_graph(patch):
    """Organs are what differs from plain tissue, brighter or darker."""
    from openvino import opset13 as ops

    offset = ops.subtract(ops.abs(patch), np.float32(1))
    return ops.multiply(offset, np.float32(10))


def segmenter_graph(patch):
    """Liver is bright, spleen is dark, the other organs are nowhere."""
    from openvino import opset13 as ops

    background = ops.multiply(patch, np.float32(0))
    nowhere = ops.subtract(background, np.float32(40))
    scores = [background] + 13 * [nowhere]
    scores[BRIGHT_ORGAN] = ops.multiply(ops.subtract(patch, np.float32(1)), np.float32(10))
    scores[DARK_ORGAN] = ops.multiply(ops.add(patch, np.float32(1)), np.float32(-10))
    return ops.concat(scores, axis=1)


def write_weights(folder, config, graph, **fields):
    """Write an IR and its manifest the way the export does."""
    import openvino as ov
    from openvino import opset13 as ops

    folder.mkdir(parents=True)
    patch = ops.parameter([1, 1, *config.patch_shape], np.float32, name="patch")
    patch.output(0).set_names({"patch"})
    model = ov.Model([ops.result(graph(patch))], [patch], config.name)
    ov.save_model(model, folder / MODEL_NAME, compress_to_fp16=False)
    manifest = Manifest(
        **{
            "config": config,
            "files": checksums(folder, (MODEL_NAME, MODEL_WEIGHTS_NAME)),
            "parameters": 3,
            "gmacs_per_patch": 0.25,
            "license": "Apache-2.0",
            "provenance": "written by hand for tests",
        }
        | fields
    )
    (folder / "manifest.json").write_text(manifest.to_json())


def ball(shape, spacing_mm, center_mm, radius_mm):
    """Give a mask of a ball, in mm from the first voxel's center."""
    axes = np.ogrid[tuple(slice(0, size) for size in shape)]
    distance = sum(
        (axis * step - center) ** 2
        for axis, step, center in zip(axes, spacing_mm, center_mm, strict=True)
    )
    return distance <= radius_mm**2


def source_of(geometry):
    """Give a scan that lies straight on disk, as far as its place matters."""
    header = ScanHeader(
        path=Path("scan.nii"),
        geometry=geometry,
        nifti_header=None,
    )
    orientation = Orientation(axes=(0, 1, 2), flipped=(False, False, False))
    return Source(header=header, orientation=orientation, geometry=geometry)
