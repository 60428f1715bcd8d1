"""A small folder in the FLARE layout, for the tests of training on one's own scans."""

import numpy as np
import SimpleITK as sitk


def write_image(path, array, *, spacing_xyz=(3.0, 4.0, 5.0), origin_xyz=(0.0, 0.0, 0.0)):
    """Write an array (z, y, x) as an image in LPS."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(np.asarray(array))
    image.SetSpacing(spacing_xyz)
    image.SetOrigin(origin_xyz)
    sitk.WriteImage(image, str(path))
    return path


def write_case(folder, name, *, organs=(1, 2, 13), shape=(12, 14, 16), **geometry):
    """Write a scan and a label map with a cube of each organ."""
    labels = np.zeros(shape, np.uint8)
    for index, value in enumerate(organs):
        labels[2 + index : 8 + index, 4:8, 3 + 3 * index : 6 + 3 * index] = value
    scan = np.where(labels > 0, 100 + 10 * labels.astype(np.int16), -50).astype(np.int16)
    write_image(folder / "imagesTr" / f"{name}_0000.nii.gz", scan)
    write_image(folder / "labelsTr" / f"{name}.nii.gz", labels, **geometry)
    return scan, labels
