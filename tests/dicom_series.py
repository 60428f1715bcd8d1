"""DICOM series on disk, made from arrays."""

import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def write_series(
    folder, hu, *, spacing_mm, origin_xyz=(-40.0, -30.0, 100.0), orientation=AXIAL, patient="P1"
):
    """Write int16 HU (slices, rows, columns) as a CT series; give the files in slice order.

    File names say nothing of the order, as in an archive.
    """
    folder.mkdir(parents=True, exist_ok=True)
    study, series, frame = (generate_uid() for _ in range(3))
    rows, columns = np.reshape(orientation, (2, 3))
    normal = np.cross(rows, columns)
    paths = []
    for index, plane in enumerate(hu):
        position = np.asarray(origin_xyz) + index * spacing_mm[0] * normal
        image = _slice(plane, spacing_mm, orientation, position.tolist(), patient)
        image.StudyInstanceUID, image.SeriesInstanceUID = study, series
        image.FrameOfReferenceUID = frame
        image.InstanceNumber = index + 1
        path = folder / f"{(index * 7919) % 10007:05d}_{index}.dcm"
        image.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


def _slice(plane, spacing_mm, orientation, position_xyz, patient):
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.file_meta.MediaStorageSOPClassUID = CTImageStorage
    image.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    image.SOPClassUID = CTImageStorage
    image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID
    image.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    image.StudyDate, image.StudyTime, image.ContentDate, image.ContentTime = (
        "20200102", "101112", "20200102", "101112",
    )  # fmt: skip
    image.AccessionNumber = "A1"
    image.Modality = "CT"
    image.Manufacturer = "made by a test"
    image.ReferringPhysicianName = ""
    image.StudyDescription, image.SeriesDescription = "Abdomen", "made by a test"
    image.PatientName, image.PatientID = "Phantom^One", patient
    image.PatientBirthDate, image.PatientSex = "19700101", "O"
    image.SliceThickness = spacing_mm[0]
    image.KVP = 120
    image.StudyID, image.SeriesNumber, image.AcquisitionNumber = "1", 2, 1
    image.PatientPosition = "HFS"
    image.ImagePositionPatient = [round(value, 6) for value in position_xyz]
    image.ImageOrientationPatient = list(orientation)
    image.PositionReferenceIndicator = ""
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.Rows, image.Columns = plane.shape
    image.PixelSpacing = [spacing_mm[1], spacing_mm[2]]
    image.BitsAllocated, image.BitsStored, image.HighBit = 16, 16, 15
    image.PixelRepresentation = 1
    image.RescaleIntercept, image.RescaleSlope, image.RescaleType = 0, 1, "HU"
    image.PixelData = np.ascontiguousarray(plane, np.int16).tobytes()
    return image
