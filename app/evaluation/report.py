"""One page to look at: means, box plots, the worst results. A single file, no network."""

import base64
import io
import math
from html import escape
from pathlib import Path

from PIL import Image

from app.evaluation.box_plot import box_plot
from app.evaluation.protocols import FLARE24_REFERENCE_SLICES, Protocol
from app.evaluation.score import Evaluation
from app.evaluation.summary import Mean, Summary
from app.evaluation.worst import ADDED_COLOR, BOTH_COLOR, MISSED_COLOR, WorstResult
from app.imaging.io import atomic_path
from app.labels import ORGANS

STYLE = """
body { font: 14px/1.45 system-ui, sans-serif; color: #222; max-width: 1120px; margin: 24px auto;
       padding: 0 16px; }
h1 { font-size: 22px; } h2 { font-size: 17px; margin-top: 28px; }
table { border-collapse: collapse; }
td, th { padding: 3px 14px 3px 0; text-align: right; border-bottom: 1px solid #ddd; }
td:first-child, th:first-child { text-align: left; }
.interval { color: #777; font-size: 12px; }
.plots, .worst { display: flex; flex-wrap: wrap; gap: 16px; }
figure { margin: 0; background: #000; color: #ddd; padding-bottom: 6px; }
figure img { display: block; }
figcaption { padding: 4px 8px; font-size: 13px; }
.swatch { display: inline-block; width: 11px; height: 11px; margin: 0 4px 0 12px; }
svg text { font: 12px system-ui, sans-serif; fill: #333; }
svg .title { font-weight: 600; font-size: 14px; } svg .name { text-anchor: end; }
svg .tick { text-anchor: middle; fill: #777; } svg .none { fill: #999; }
svg .grid { stroke: #ddd; } svg .whisker { stroke: #444; }
svg .box { stroke: #444; } svg .median { stroke: #000; stroke-width: 2; }
svg .beyond { fill: #444; }
"""


def write_report(path: Path, evaluation: Evaluation, summary: Summary, protocol: Protocol) -> None:
    """Write the report.

    Parameters
    ----------
    path : Path
        HTML file to write.
    evaluation : Evaluation
        Scores and the worst results.
    summary : Summary
        Means of the protocol.
    protocol : Protocol
        The one whose scores are shown.
    """
    num_cases = len({result.case for result in evaluation.results[protocol]})
    page = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Evaluation, {num_cases} cases</title>
<style>{STYLE}</style>
</head>
<body>
<h1>{num_cases} cases, protocol {protocol}:
DSC {_mean(summary.dsc)}, NSD {_mean(summary.nsd)}</h1>
{_notes(evaluation, protocol)}
<h2>Scores of each organ</h2>
<div class="plots">
{_plots(evaluation, protocol)}
</div>
<h2>Means, with 95 % bootstrap intervals over cases</h2>
{_table(summary)}
<h2>The {len(evaluation.worst.results)} worst results</h2>
{_worst(evaluation.worst.results, protocol)}
</body>
</html>
"""
    with atomic_path(path) as partial:
        # Names of files may hold bytes that are no text.
        partial.write_text(page, encoding="utf-8", errors="backslashreplace")


def _mean(mean: Mean) -> str:
    if math.isnan(mean.value):
        return "–"
    low, high = mean.interval
    return f'{mean.value:.4f} <span class="interval">[{low:.4f}, {high:.4f}]</span>'


def _notes(evaluation: Evaluation, protocol: Protocol) -> str:
    """List what a reader of the means has to know."""
    treatment = "counted as wrong" if protocol == "strict" else "left out"
    notes = [f"No prediction, {treatment}: {case}" for case in evaluation.missing]
    notes += [f"No reference, passed over: {path.name}" for path in evaluation.extra]
    notes += [f"Not usable: {problem}" for problem in evaluation.problems[protocol]]
    if not notes:
        return ""
    items = "".join(f"<li>{escape(note)}</li>" for note in notes)
    return f"<ul>{items}</ul>"


def _plots(evaluation: Evaluation, protocol: Protocol) -> str:
    results = evaluation.results[protocol]
    plots = []
    for metric in ("dsc", "nsd"):
        rows = [
            (
                organ.name.replace("_", " "),
                f"rgb{organ.color}",
                [getattr(row.score, metric) for row in results if row.organ == organ.name],
            )
            for organ in ORGANS
        ]
        plots.append(box_plot(metric.upper(), rows))
    return "\n".join(plots)


def _table(summary: Summary) -> str:
    rows = [
        f"<tr><td>{name.replace('_', ' ')}</td><td>{dsc.num_cases}</td>"
        f"<td>{_mean(dsc)}</td><td>{_mean(nsd)}</td></tr>"
        for name, (dsc, nsd) in summary.organs.items()
    ]
    head = "<tr><th>organ</th><th>cases</th><th>DSC</th><th>NSD</th></tr>"
    return "\n".join(["<table>", head, *rows, "</table>"])


def _worst(results: list[WorstResult], protocol: Protocol) -> str:
    if not results:
        return "<p>None: all that was scored is perfect.</p>"
    legend = "".join(
        f'<span class="swatch" style="background: rgb{color}"></span>{name}'
        for name, color in (
            ("in both", BOTH_COLOR),
            ("missed", MISSED_COLOR),
            ("added", ADDED_COLOR),
        )
    )
    figures = [
        f'<figure><img src="{_data_uri(result.picture)}" alt=""><figcaption>'
        f"{escape(result.case)}, {result.organ.replace('_', ' ')}: "
        f"DSC {result.score.dsc:.3f}, NSD {result.score.nsd:.3f}</figcaption></figure>"
        for result in results
    ]
    hints = ""
    if any(result.over_scan for result in results):
        hints += " On a scan, what is in both is left untinted."
    if any(result.organ in FLARE24_REFERENCE_SLICES for result in results if protocol == "flare24"):
        hints += " Of aorta, inferior vena cava and esophagus only the slices that count are drawn."
    return (
        "<p>By the mean of DSC and NSD. Axial, coronal and sagittal plane where the two differ "
        "most; patient's right on the left; the reference is outlined."
        f"{hints}{legend}</p>\n"
        f'<div class="worst">\n{"".join(figures)}\n</div>'
    )


def _data_uri(picture: Image.Image) -> str:
    """Put a picture into the page itself."""
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
