"""Results in the formats of other tools: tables, 3D Slicer, DICOM."""
