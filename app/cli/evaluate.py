"""Score label maps against references: DSC and NSD for every case and organ.

X.nii.gz is compared with the reference of the same name, whatever the format. Written
are scores.csv (case, organ, dsc, nsd, volume_ref_ml, volume_pred_ml), summary.json
(means with 95 % bootstrap intervals) and report.html (box plots, the ten worst results).

Protocols:
  flare24  the numbers of the FLARE 2024 challenge: an organ that neither label map holds
           scores 1, one that only one of them holds 0; NSD is 0 where DSC is below 0.2;
           of aorta, inferior vena cava and esophagus only the reference's slices count,
           the last one dropped; voxels are as large as the reference's pixdim says; a
           missing prediction is left out
  strict   masks as they are; a missing prediction counts as all organs wrong; an organ
           that neither label map holds is not scored; grids must match
Where the two differ is printed under either. A label map whose numbers are not whole, or are
none (NaN), is refused under either: rounded, they would be labels that nobody has drawn.

Beside label maps that `predict` wrote lies its record, run.json: then boxes.csv tells for each
case how much of the organs the located box holds, and how large it is against the smallest one;
summary.json tells the worst of them.

Exit code: 0 all compared, 1 a prediction is missing or a file could not be used, 2 wrong use.
"""

import argparse
import contextlib
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from app.cli.folders import prepare_folder
from app.errors import InputError, UsageError

if TYPE_CHECKING:
    from app.evaluation.boxes import BoxScore
    from app.evaluation.score import Difference

logger = logging.getLogger(__name__)

HELP = "score label maps against references: DSC, NSD, a report"

PROTOCOLS = ("flare24", "strict")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument(
        "--predictions", type=Path, required=True, metavar="DIR", help="folder of label maps"
    )
    parser.add_argument(
        "--references",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder of label maps to compare with",
    )
    parser.add_argument(
        "--output", type=Path, required=True, metavar="DIR", help="folder for scores and report"
    )
    parser.add_argument(
        "--scans",
        type=Path,
        metavar="DIR",
        help="folder of the scans (X.nii.gz or X_0000.nii.gz), to be drawn behind the worst "
        "results (default: label maps alone are drawn)",
    )
    parser.add_argument(
        "--protocol",
        choices=PROTOCOLS,
        default="flare24",
        help="whose scores are written (default: %(default)s)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Score all cases and write the results.

    Returns
    -------
    int
        0 if every reference has a prediction and every file could be used, 1 if not.
    """
    from app.evaluation.boxes import read_boxes, write_boxes
    from app.evaluation.report import write_report
    from app.evaluation.score import evaluate, find_differences, write_scores
    from app.evaluation.summary import summarize, write_summary

    prepare_folder(arguments.output)
    _check_page(arguments.output / "report.html")
    protocol = arguments.protocol
    try:
        located = read_boxes(arguments.predictions)
    except InputError as error:  # the label maps are scored all the same
        logger.warning("%s; no boxes are scored", error)
        located = {}
    evaluation = evaluate(
        arguments.predictions,
        arguments.references,
        protocol=protocol,
        scans=arguments.scans,
        boxes=located,
    )
    summaries = {name: summarize(results) for name, results in evaluation.results.items()}
    write_scores(arguments.output / "scores.csv", evaluation.results[protocol])
    write_summary(arguments.output / "summary.json", evaluation, summaries, protocol)
    write_report(arguments.output / "report.html", evaluation, summaries[protocol], protocol)

    if evaluation.boxes:
        write_boxes(arguments.output / "boxes.csv", evaluation.boxes)
        print(_boxes_line(evaluation.boxes))

    for difference in find_differences(evaluation):
        print(_as_line(difference))
    for case in evaluation.missing:
        print(f"MISSING  {case}: no prediction in {arguments.predictions}")
    for path in evaluation.extra:
        print(f"EXTRA    {path}: no reference of this name in {arguments.references}")
    for name, summary in summaries.items():
        mark = "*" if name == protocol else " "
        print(f"{mark} {name:8} mean DSC {summary.dsc.value:.4f}, NSD {summary.nsd.value:.4f}")
    print(f"Written to {arguments.output}: scores.csv, summary.json, report.html")
    for problem in evaluation.problems[protocol]:
        sys.stderr.write(f"error: {problem}\n")
    return 1 if evaluation.problems[protocol] or evaluation.missing else 0


def _check_page(path: Path) -> None:
    """Refuse to write over the page that `predict` or `preview` made of its results."""
    from app.report.page import cases_on_page

    with contextlib.suppress(OSError):  # there is none, or it shows when it is to be written
        if cases_on_page(path):
            raise UsageError(f"{path}: shows results of predict; choose another --output")


def _boxes_line(boxes: "list[BoxScore]") -> str:
    """Sum up how well boxes hold the organs."""
    from app.evaluation.boxes import summarize_boxes

    summary = summarize_boxes(boxes)
    recall, ratio = summary.least_recall, summary.largest_volume_ratio
    least = "" if recall is None else f", least organ recall {recall:.5f}"
    largest = "" if ratio is None else f", largest volume ratio {ratio:.2f}"
    false = summary.num_without_organs_boxed
    return f"boxes of {summary.num_cases} case(s){least}{largest}, {false} without organs boxed"


def _as_line(difference: "Difference") -> str:
    """Tell what each protocol gives."""
    told = [
        f"{name} DSC {score.dsc:.4f} NSD {score.nsd:.4f}"
        for name, score in sorted(difference.scores.items())
    ]
    told += [f"{name} leaves it out" for name in PROTOCOLS if name not in difference.scores]
    return f"DIFFER   {difference.case} {difference.organ}: {'; '.join(told)}"
