"""DICOM series as tests need them: whole, odd, damaged, compressed."""

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, ExplicitVRLittleEndian, generate_uid

OFFSET = 1024
LPS = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def slice_dataset(hu, position_xyz, spacing_mm, *, cosines=LPS, series=1, uid=None, **elements):
    """Make one CT slice: 12 bits in 16, stored as HU + 1024.

    ``elements`` replace what is written by default; None removes an element.
    """
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = generate_uid()
    dataset.SeriesInstanceUID = uid or f"1.2.3.{series}"
    dataset.StudyInstanceUID = "1.2.3"
    dataset.SeriesNumber = series
    dataset.Modality = "CT"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.ImagePositionPatient = [float(value) for value in position_xyz]
    dataset.ImageOrientationPatient = list(cosines)
    dataset.PixelSpacing = [spacing_mm[1], spacing_mm[2]]
    dataset.SliceThickness = spacing_mm[0]
    dataset.RescaleSlope, dataset.RescaleIntercept = 1, -OFFSET
    _set_pixels(dataset, (hu + OFFSET).astype(np.uint16))
    for name, value in elements.items():
        if value is None:
            delattr(dataset, name)
        else:
            setattr(dataset, name, value)
    return dataset


def _set_pixels(dataset, stored):
    dataset.Rows, dataset.Columns = stored.shape[-2:]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelRepresentation = 0
    dataset.PixelData = stored.tobytes()
    dataset["PixelData"].VR = "OW"


def series_datasets(hu, spacing_mm, *, origin_xyz=(10.0, 20.0, 30.0), cosines=LPS, **options):
    """Make all slices of a scan, the first slice first."""
    normal = np.cross(cosines[:3], cosines[3:])
    return [
        slice_dataset(
            plane,
            np.asarray(origin_xyz) + index * spacing_mm[0] * normal,
            spacing_mm,
            cosines=cosines,
            **options,
        )
        for index, plane in enumerate(hu)
    ]


def save(folder, datasets, *, compress=None, shuffle=True, prefix="IM"):
    """Write datasets as files whose names say nothing about their order."""
    folder.mkdir(parents=True, exist_ok=True)
    names = np.random.default_rng(5).permutation(len(datasets)) if shuffle else range(len(datasets))
    paths = []
    for dataset, name in zip(datasets, names, strict=True):
        if compress is not None:
            dataset.compress(compress, generate_instance_uid=False)
        paths.append(folder / f"{prefix}{name:04d}")
        dataset.save_as(paths[-1], enforce_file_format=True)
    return paths


def write_series(folder, hu, spacing_mm, *, compress=None, **options):
    """Write a scan as a DICOM series; see :func:`series_datasets`."""
    return save(folder, series_datasets(hu, spacing_mm, **options), compress=compress)


def enhanced_dataset(hu, spacing_mm, *, origin_xyz=(10.0, 20.0, 30.0), order=None):
    """Make one enhanced CT file of all slices, its frames in any order."""
    order = list(range(len(hu))) if order is None else order
    dataset = slice_dataset(hu[0], origin_xyz, spacing_mm, SOPClassUID=EnhancedCTImageStorage)
    for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
        delattr(dataset, name)
    del dataset.RescaleSlope, dataset.RescaleIntercept
    measures, turn, scale = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [spacing_mm[1], spacing_mm[2]], spacing_mm[0]
    turn.ImageOrientationPatient = list(LPS)
    scale.RescaleSlope, scale.RescaleIntercept = 1, -OFFSET
    shared = Dataset()
    shared.PixelMeasuresSequence = Sequence([measures])
    shared.PlaneOrientationSequence = Sequence([turn])
    shared.PixelValueTransformationSequence = Sequence([scale])
    dataset.SharedFunctionalGroupsSequence = Sequence([shared])
    frames = []
    for index in order:
        place = Dataset()
        place.ImagePositionPatient = [
            origin_xyz[0],
            origin_xyz[1],
            origin_xyz[2] + index * spacing_mm[0],
        ]
        frame = Dataset()
        frame.PlanePositionSequence = Sequence([place])
        frames.append(frame)
    dataset.PerFrameFunctionalGroupsSequence = Sequence(frames)
    dataset.NumberOfFrames = len(order)
    dataset.PixelData = (hu[order] + OFFSET).astype(np.uint16).tobytes()
    dataset["PixelData"].VR = "OW"
    return dataset


def read_any(path):
    """Read a file back as pydicom sees it."""
    return pydicom.dcmread(path)
