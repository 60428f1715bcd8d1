"""Write label maps that were corrected elsewhere as DICOM SEG or for 3D Slicer.

A label map that was corrected in 3D Slicer or ITK-SNAP goes back into the archive as a
DICOM Segmentation of the series that it was made from, which says that a person had a
hand in it. X.nii.gz becomes X.seg.dcm. A segmentation of 3D Slicer, X.seg.nrrd, is read by
the names of its segments. Refused, before anything is written of it, is a label map on
another grid than the series, with values of no organ, or with fractions.

Label maps and series are paired by name, as predict names them; of one label map and one
series, names do not matter.

Exit code: 0 all written, 1 some label map could not be used, 2 wrong use. Not for clinical use.
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

from app.cli.cases import named_series, printable, scan_files
from app.cli.extras import check_format_names, listed_names
from app.cli.folders import check_dicom, prepare_folder
from app.errors import CascadeError, InputError, UsageError
from app.imaging.image_files import case_name
from app.imaging.io import peek
from app.outputs.made_by import MadeBy

HELP = "write corrected label maps as DICOM SEG, or for 3D Slicer"

FORMATS = ("dicom-seg", "seg.nrrd")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's arguments."""
    parser.add_argument(
        "--labels",
        type=Path,
        required=True,
        metavar="DIR|FILE",
        help="folder of label maps, or one; .seg.nrrd of 3D Slicer, too",
    )
    parser.add_argument(
        "--output", type=Path, required=True, metavar="DIR", help="folder to write to"
    )
    parser.add_argument(
        "--formats",
        type=listed_names,
        default=["dicom-seg"],
        metavar="A,B",
        help=f"of {', '.join(FORMATS)} (default: dicom-seg)",
    )
    parser.add_argument(
        "--dicom",
        type=Path,
        metavar="DIR",
        help="for dicom-seg: folder of the DICOM series, or of those of all label maps",
    )
    parser.add_argument(
        "--made-by",
        choices=sorted(maker.value for maker in MadeBy),
        default="corrected",
        help="what the DICOM SEG says of each segment: SEMIAUTOMATIC for a result of the network "
        "that a person corrected, MANUAL for one drawn by hand, AUTOMATIC for one of the network "
        "as it came (default: corrected)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Write every label map in the formats asked for.

    Returns
    -------
    int
        0 if all were written, 1 if some could not be.
    """
    from app.outputs.formats import convert_label_map

    check_format_names(arguments.formats, FORMATS)
    paths = find_label_maps(arguments.labels)
    series: Mapping[str, Path] = {}
    if "dicom-seg" in arguments.formats:
        series = _find_series(arguments.dicom, arguments.output)
    prepare_folder(arguments.output)
    num_failed = 0
    for name, path in paths.items():
        try:
            files = _files_of(name, path, series, is_alone=len(paths) == 1) if series else None
            _check_not_replaced(path, arguments.output / name)
            written, warnings = convert_label_map(
                path,
                arguments.output,
                name,
                arguments.formats,
                series_files=files,
                made_by=MadeBy(arguments.made_by),
            )
        except CascadeError as error:
            sys.stderr.write(printable(f"error: {error}") + "\n")
            num_failed += 1
            continue
        for warning in warnings:
            sys.stderr.write(printable(f"warning: {warning}") + "\n")
        for result in written:
            print(printable(f"written  {result.resolve()}"))
    return 1 if num_failed else 0


def find_label_maps(source: Path) -> dict[str, Path]:
    """List label maps by the names of their cases.

    Parameters
    ----------
    source : Path
        A label map, or a folder of them; hidden files and other types are left out.

    Returns
    -------
    dict of str to Path
        At least one, by name.

    Raises
    ------
    UsageError
        If there is none, or two have one name.
    """
    if source.is_dir():
        paths = scan_files(source)
    elif source.is_file():
        paths = [source]
    else:
        raise UsageError(f"--labels {source}: no such file or folder")
    if not paths:
        raise UsageError(f"--labels {source}: no label map in it")
    named: dict[str, Path] = {}
    for path in paths:
        name = case_name(path).removesuffix(".seg")
        if name in named:
            raise UsageError(
                f"{named[name].name} and {path.name} would both become {name}.seg.dcm; "
                "give the one that was corrected as --labels"
            )
        named[name] = path
    return named


def _find_series(folder: Path | None, output: Path) -> Mapping[str, Path]:
    """Find the DICOM series that segmentations are to refer to."""
    if folder is None:
        raise UsageError("--formats dicom-seg: a DICOM SEG needs its series; name it with --dicom")
    check_dicom(folder)
    series = named_series(folder, output)
    if not series:
        raise UsageError(f"--dicom {folder}: no DICOM series found in it")
    return series


def _files_of(
    name: str, path: Path, series: Mapping[str, Path], *, is_alone: bool
) -> tuple[Path, ...]:
    """Give the files of the series that a label map belongs to."""
    place = series.get(name)
    if place is None and is_alone and len(series) == 1:
        (place,) = series.values()
    if place is None:
        raise InputError(
            f"{path}: no DICOM series of this name found (but {', '.join(sorted(series)[:5])}); "
            "name the label map as predict does, or give it alone with the folder of its series"
        )
    return tuple(dict.fromkeys(peek(place).slice_files))  # an enhanced file holds many slices


def _check_not_replaced(path: Path, stem: Path) -> None:
    """Refuse to write over the segmentation that is read."""
    if path.resolve() == stem.with_name(f"{stem.name}.seg.nrrd").resolve():
        raise UsageError(f"{path} would be replaced by what is made of it; choose another --output")
