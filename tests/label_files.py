"""Small label maps on disk, for the tests of evaluation and of its command."""

import numpy as np
import SimpleITK as sitk

SPACING_XYZ = (1.0, 2.0, 3.0)


def write_labels(path, array, *, spacing_xyz=SPACING_XYZ, origin_xyz=(0.0, 0.0, 0.0)):
    """Write an array (z, y, x) as a label map."""
    image = sitk.GetImageFromArray(np.asarray(array))
    image.SetSpacing(spacing_xyz)
    image.SetOrigin(origin_xyz)
    sitk.WriteImage(image, str(path))
    return path


def make_folders(parent):
    """Make empty folders for predictions and references."""
    predictions, references = parent / "predictions", parent / "references"
    predictions.mkdir()
    references.mkdir()
    return predictions, references


def write_segments(path, array, names, **geometry):
    """Write an array (z, y, x) as 3D Slicer does; ``names`` of segments by value."""
    image = sitk.ReadImage(write_labels(path, array, **geometry))
    for index, (value, name) in enumerate(names.items()):
        image.SetMetaData(f"Segment{index}_Name", name)
        image.SetMetaData(f"Segment{index}_LabelValue", str(value))
    sitk.WriteImage(image, str(path))
    return path
