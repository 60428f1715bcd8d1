"""The page: a table of all cases, the pictures, and a viewer. One file, no network."""

import base64
import gzip
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape, unescape
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

from app.labels import ORGANS, Organ
from app.report.viewing_copy import VIEWING_WINDOW_HU

REPORT_NAME = "report.html"

SHORT_NAMES = {
    "right_kidney": "right<br>kidney",
    "left_kidney": "left<br>kidney",
    "inferior_vena_cava": "inferior<br>vena cava",
    "right_adrenal_gland": "right<br>adrenal",
    "left_adrenal_gland": "left<br>adrenal",
}
"""Column headings (HTML) for organs whose own name is long."""

_CUT = frozenset({"cut_by_field_of_view", "cut_by_box"})
"""Flags of organs of which part is missing, so that their volume is a lower bound."""

_CHUNK_BYTES = 3 << 18  # a multiple of 3, so that pieces of base64 can be joined

_ROW = re.compile(r'<tbody data-case="\d+" data-status="\w+"><tr><td data-value="([^"]*)">')


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewerFiles:
    """What the viewer shows of one case.

    Parameters
    ----------
    scan, labels : Path
        NIfTI files of uint8 on one grid.
    center : (x, y, z) floats
        Where the viewer opens, as shares of the grid from left, back and feet.
    """

    scan: Path
    labels: Path
    center: tuple[float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class PageCase:
    """One row of the page's table, with what belongs to it.

    Parameters
    ----------
    entry : dict
        The case's entry in ``run.json``; only ``name`` and ``status`` must be there.
    picture : Path or None
        A JPEG file to put into the page.
    viewer : ViewerFiles or None
        None if the page holds no scan data of this case.
    """

    entry: dict[str, Any]
    picture: Path | None = None
    viewer: ViewerFiles | None = None


def page_parts(record: dict[str, Any], cases: Sequence[PageCase]) -> Iterator[str]:
    """Give the page piece by piece, so that it never lies in memory as a whole.

    Parameters
    ----------
    record : dict
        What ``run.json`` says about the batch; may be empty or lack a field.
    cases : sequence of PageCase
        In the order of the table.

    Yields
    ------
    str
        HTML; table and pictures first, the scans' voxels last.
    """
    num_shown = sum(case.viewer is not None for case in cases)
    title = f"{_count(len(cases))}, abdominal organs"
    yield Template(_asset("page.html")).substitute(
        title=title,
        heading=title,
        about=_about(record, cases),
        style=_asset("report.css"),
        count=_count(len(cases)),
        head=_head(),
        rows="\n".join(_row(index, case) for index, case in enumerate(cases)),
        viewer=Template(_asset("viewer.html")).substitute(organs=_organ_lines())
        if num_shown
        else "",
        pictures=_pictures(cases),
        notices=escape(_asset("NOTICES.txt")),
        data=_json(cases),
    )
    for index, case in enumerate(cases):
        if case.viewer is not None:
            yield from _voxels(f"scan-{index}", case.viewer.scan)
            yield from _voxels(f"labels-{index}", case.viewer.labels)
    yield f"<script>{_asset('report.js')}</script>\n"
    if num_shown:
        yield f"<script>{viewer_program()}</script>\n"
        yield f"<script>{_asset('viewer.js')}</script>\n"
    yield "</body>\n</html>\n"


def cases_on_page(path: Path) -> frozenset[str]:
    """List the cases that a page of :func:`page_parts` shows.

    Parameters
    ----------
    path : Path
        Any HTML file.

    Returns
    -------
    frozenset of str
        Their names, bytes that are no text written out as the page has them; empty
        for a page of another program.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    with path.open(encoding="utf-8", errors="replace", newline="") as page:
        table = ""
        # The table comes first: of the voxels behind it nothing is read.
        while "</table>" not in table and (piece := page.read(_CHUNK_BYTES)):
            table += piece
    return frozenset(unescape(name) for name in _ROW.findall(table.partition("</table>")[0]))


def viewer_program() -> str:
    """Give NiiVue's program, which comes with this package as the npm registry holds it."""
    packed = resources.files("app.report").joinpath("assets", "niivue.umd.js.gz").read_bytes()
    return gzip.decompress(packed).decode("utf-8")


def status_of(entry: dict[str, Any]) -> str:
    """Tell failed cases and those with a warning from those that just went well."""
    if entry["status"] != "ok":
        return "failed"
    return "look" if entry.get("warnings") else "ok"


def _asset(name: str) -> str:
    return resources.files("app.report").joinpath("assets", name).read_text(encoding="utf-8")


def _about(record: dict[str, Any], cases: Sequence[PageCase]) -> str:
    """Say in a line how the batch went and what ran it."""
    statuses = [status_of(case.entry) for case in cases]
    facts = [f"{len(cases) - statuses.count('failed')} segmented"]
    if "failed" in statuses:
        facts.append(f"<strong>{statuses.count('failed')} failed</strong>")
    if "look" in statuses:
        facts.append(f"{statuses.count('look')} with warnings")
    num_left = record.get("num_cases", 0) - len(cases)
    if num_left > 0:
        facts.append(f"<strong>{_count(num_left, 'scan')} not done, --resume goes on</strong>")
    if "version" in record:
        facts.append(escape(f"version {record['version']}"))
    machine = [str(record[name]) for name in ("cpu", "precision") if name in record]
    if isinstance(record.get("threads"), int):
        machine.insert(1, _count(record["threads"], "thread"))
    if machine:
        facts.append(escape(", ".join(machine)))
    if "started" in record:
        facts.append(escape(str(record["started"]).replace("T", " ")[:16]) + " UTC")
    return " · ".join([*facts, "not for clinical use"])


def _count(number: int, thing: str = "case") -> str:
    return f"{number} {thing}{'s' * (number != 1)}"


def _head() -> str:
    columns = [
        _heading("Case", "text", ""),
        _heading("Status", "text", "left"),
        _heading("Flags", "number", ""),
        _heading("Time<br>in s", "number", ""),
        _heading("Memory<br>in MiB", "number", ""),
    ]
    columns += [_heading(_swatch(organ) + _short(organ), "number", "") for organ in ORGANS]
    return "".join(columns)


def _heading(text: str, kind: str, name: str) -> str:
    return (
        f'<th scope="col" class="{name}" data-type="{kind}" aria-sort="none">'
        f'<button type="button">{text}</button></th>'
    )


def _row(index: int, case: PageCase) -> str:
    entry = case.entry
    name = escape(entry["name"])
    if case.viewer is not None:
        name = f'<button type="button" class="name" data-open="{index}">{name}</button>'
    status = status_of(entry)
    badge = {"ok": "ok", "look": "warning", "failed": "failed"}[status]
    cells = [
        f'<td data-value="{escape(entry["name"])}">{name}</td>',
        f'<td class="left" data-value="{badge}"><span class="badge {status}">{badge}</span></td>',
        _number(len(entry["flags"]) if "flags" in entry else None, "{:d}"),
        _number(entry.get("total_seconds"), "{:.1f}"),
        _number(entry.get("peak_mib"), "{:.0f}"),
    ]
    volumes_ml = entry.get("volumes_ml") or {}
    cut = {flag.get("organ") for flag in entry.get("flags") or [] if flag.get("code") in _CUT}
    for organ in ORGANS:
        volume_ml = volumes_ml.get(organ.name) or None  # 0 ml is an organ not found
        pattern = "{:.0f}" if (volume_ml or 0) >= 10 else "{:.1f}"
        cells.append(_number(volume_ml, f"≥ {pattern}" if organ.name in cut else pattern))
    return (
        f'<tbody data-case="{index}" data-status="{status}"><tr>{"".join(cells)}</tr>'
        f"{_notes(entry, len(cells))}</tbody>"
    )


def _notes(entry: dict[str, Any], num_columns: int) -> str:
    """Give a row of its own to what is to be read about a case, if there is anything."""
    lines = [f"<div>{escape(str(text))}</div>" for text in entry.get("warnings") or []]
    if entry.get("error"):
        lines.append(f'<div class="error">{escape(str(entry["error"]))}</div>')
    if not lines:
        return ""
    return f'<tr class="notes"><td colspan="{num_columns}">{"".join(lines)}</td></tr>'


def _number(value: int | float | None, pattern: str) -> str:
    if value is None:
        return '<td class="none" data-value="">–</td>'
    return f'<td data-value="{value}">{pattern.format(value)}</td>'


def _short(organ: Organ) -> str:
    return SHORT_NAMES.get(organ.name, organ.name.replace("_", " "))


def _swatch(organ: Organ) -> str:
    return f'<span class="swatch" style="background:rgb{organ.color}"></span>'


def _organ_lines() -> str:
    """List the organs with a switch each."""
    lines = []
    for organ in ORGANS:
        name = organ.name.replace("_", " ")
        lines.append(
            f'<div class="organ" data-organ="{organ.name}">'
            f'<input type="checkbox" id="organ-{organ.value}" value="{organ.value}" checked>'
            f'{_swatch(organ)}<label for="organ-{organ.value}">{name}</label>'
            f'<span class="ml"></span><button type="button" data-only="{organ.value}" '
            f'aria-label="show {name} only">only</button></div>'
        )
    return "\n".join(lines)


def _pictures(cases: Sequence[PageCase]) -> str:
    figures = [
        _figure(index, case, case.picture)
        for index, case in enumerate(cases)
        if case.picture is not None
    ]
    if not figures:
        return ""
    return (
        '<section class="card" aria-labelledby="pictures-title"><div class="head">'
        '<h2 id="pictures-title">Pictures</h2><span class="soft">planes where most organs show; '
        "the patient's right is on the left; slices count from feet, front and right</span></div>"
        f'<div class="pictures">\n{"".join(figures)}</div></section>'
    )


def _figure(index: int, case: PageCase, picture: Path) -> str:
    name = escape(case.entry["name"])
    source = "data:image/jpeg;base64," + base64.b64encode(picture.read_bytes()).decode("ascii")
    link = ""
    if case.viewer is not None:
        link = f'<a class="push no-print" href="#viewer" data-open="{index}">open in viewer</a>'
    return (
        f'<figure id="picture-{index}"><button type="button" class="enlarge" aria-expanded="false" '
        f'title="larger or smaller"><img loading="lazy" src="{source}" '
        f'alt="{name}: three planes and a front view with the organs in color"></button>'
        f"<figcaption><span>{name}</span>{link}</figcaption></figure>\n"
    )


def _json(cases: Sequence[PageCase]) -> str:
    """Give what the page's program needs to know."""
    data = {
        "window": VIEWING_WINDOW_HU,
        "organs": [
            {"value": organ.value, "name": organ.name.replace("_", " "), "color": organ.color}
            for organ in ORGANS
        ],
        "cases": [
            {
                "name": case.entry["name"],
                "viewable": case.viewer is not None,
                "center": case.viewer.center if case.viewer else None,
                "volumes": case.entry.get("volumes_ml") or {},
            }
            for case in cases
        ],
    }
    return json.dumps(data).replace("<", "\\u003c")  # a name must not end the script element


def _voxels(identifier: str, path: Path) -> Iterator[str]:
    """Put a file into an element that browsers neither show nor run."""
    yield f'<script type="text/plain" id="{identifier}">'
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            yield base64.b64encode(chunk).decode("ascii")
    yield "</script>\n"
