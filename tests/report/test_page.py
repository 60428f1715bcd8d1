import base64
import gzip
import hashlib
import json
import re
from importlib import resources

import numpy as np
import pytest
import SimpleITK as sitk

from app.report.page import PageCase, cases_on_page, page_parts, viewer_program
from app.report.writer import ReportWriter, center_of

# Of dist/niivue.umd.js in @niivue/niivue 0.69.0, as the npm registry serves it.
VIEWER_SHA256 = "47b896b77ec4a5be3ef1949c33ad393b6f45629921f326c279000bcf51bdb4af"


def page_of(folder):
    return (folder / "report.html").read_text(encoding="utf-8")


def data_of(page):
    return json.loads(re.search(r'id="report-data">(.*?)</script>', page, re.DOTALL)[1])


def test_viewer_is_the_published_one_and_its_license_comes_along(report_folder):
    assert hashlib.sha256(viewer_program().encode("utf-8")).hexdigest() == VIEWER_SHA256
    page = page_of(report_folder)
    for holder in ("2021, Niivue", "Trevor Manz", "Arjun Barrett", "RII-UTHSCSA"):
        assert f"Copyright (c) {holder}" in page or holder in page
    packed = resources.files("app.report").joinpath("assets", "niivue.umd.js.gz")
    assert len(packed.read_bytes()) < 1_000_000


def test_page_refers_to_nothing_outside_itself(report_folder):
    markup = page_of(report_folder).replace(viewer_program(), "")
    sources = re.findall(r'\b(?:src|href)="([^"]{1,40})', markup)
    assert sources
    assert all(source.startswith(("data:", "#")) for source in sources)
    assert "default-src 'none'" in markup


def test_names_and_errors_cannot_break_the_page(report_folder):
    page = page_of(report_folder)
    assert "b &amp; co" in page
    assert "cut &lt;short&gt;" in page
    assert [case["name"] for case in data_of(page)["cases"]] == ["b & co", "<i>a", "c"]


def test_page_of_a_batch_that_was_ended_tells_what_is_not_done():
    case = PageCase(entry={"name": "a", "status": "ok"})
    page = "".join(page_parts({"num_cases": 3}, [case]))
    assert "2 scans not done, --resume goes on" in page
    assert "not done" not in "".join(page_parts({"num_cases": 1}, [case]))


def test_volume_of_an_organ_that_is_cut_is_a_lower_bound():
    flags = [
        {"code": "cut_by_field_of_view", "organ": "spleen", "text": "reaches the edge"},
        {"code": "volume_low", "organ": "liver", "text": "712 ml"},
    ]
    volumes_ml = {"liver": 712.3, "spleen": 8.25}
    entry = {"name": "a", "status": "ok", "flags": flags, "volumes_ml": volumes_ml}
    page = "".join(page_parts({}, [PageCase(entry=entry)]))
    assert '<td data-value="8.25">≥ 8.2</td>' in page
    assert '<td data-value="712.3">712</td>' in page


def test_a_page_can_be_asked_which_cases_it_shows(tmp_path):
    names = {"a", "b & <i>'c'", 'line\n"end"', "</table>", "\udcff"}
    cases = [PageCase(entry={"name": name, "status": "failed"}) for name in sorted(names)]
    page = tmp_path / "report.html"
    page.write_text("".join(page_parts({}, cases)), "utf-8", "backslashreplace", newline="")
    assert cases_on_page(page) == names - {"\udcff"} | {"\\udcff"}
    page.write_text('<table><tr><td data-value="a">a</td></tr></table>')
    assert cases_on_page(page) == frozenset()


def test_table_tells_without_the_viewer_what_was_found(report_folder):
    first, second, third = re.findall(r"<tbody .*?</tbody>", page_of(report_folder), re.DOTALL)
    assert 'data-status="look"' in first
    assert "the liver may be cut off" in first
    assert ">12.5<" in first
    assert ">19<" in first  # 8 x 10 x 8 voxels of 30 mm3 are 19.2 ml
    assert 'data-status="ok"' in second
    assert 'data-status="failed"' in third
    assert "notes" not in second
    num_columns = re.search(r"<thead>.*?</thead>", page_of(report_folder), re.DOTALL)[0].count(
        "<th "
    )
    assert first.count("<td data-value") + first.count('<td class="') == num_columns
    assert f'colspan="{num_columns}"' in first


def test_viewers_voxels_are_the_copy_of_the_scan(report_folder, tmp_path):
    page = page_of(report_folder)
    for name, most in (("scan", 255), ("labels", 3)):
        packed = base64.b64decode(
            re.search(rf'id="{name}-0">([^<]*)</script>', page)[1], validate=True
        )
        assert gzip.decompress(packed)
        (tmp_path / f"{name}.nii.gz").write_bytes(packed)
        image = sitk.ReadImage(str(tmp_path / f"{name}.nii.gz"))
        assert image.GetPixelID() == sitk.sitkUInt8
        assert image.GetSpacing() == (3.0, 2.5, 4.0)
        assert sitk.GetArrayFromImage(image).max() <= most


def luminance(color):
    """Give a color's relative luminance by the Web Content Accessibility Guidelines."""
    shares = (int(color[at : at + 2], 16) / 255 for at in (1, 3, 5))
    linear = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_text_stands_out_from_what_lies_behind_it(theme):
    css = resources.files("app.report").joinpath("assets", "report.css").read_text()
    rule = re.findall(r":root.*?\}", css, re.DOTALL)[theme]
    colors = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", rule))
    pairs = [
        (ink, back)
        for ink in ("ink", "soft", "accent", "good", "warn", "bad")
        for back in ("page", "card", "hover", "chosen")
    ]
    for ink, back in [*pairs, ("warn", "warn-back"), ("bad", "bad-back")]:
        bright, dim = sorted((luminance(colors[ink]), luminance(colors[back])), reverse=True)
        assert (bright + 0.05) / (dim + 0.05) >= 4.5, (ink, back)


def test_viewer_counts_from_left_back_and_feet():
    labels = np.zeros((10, 20, 4), np.uint8)
    labels[7, 4, 0] = 1  # upper, front, right
    assert center_of(labels) == (0.875, 0.775, 0.75)
    assert center_of(0 * labels) == (0.5, 0.5, 0.5)


def test_beyond_its_size_a_page_keeps_the_table_only(report_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("app.report.writer.MOST_PAGE_BYTES", 100)
    entry = {"name": "large", "status": "ok"}
    with ReportWriter(tmp_path) as report:
        report.add(entry, report_folder / "a.nii.gz", report_folder / "a.nii.gz")
        report.write({})
    page = page_of(tmp_path)
    assert "large" in page
    assert data_of(page)["cases"][0]["viewable"] is False
    assert 'id="scan-0"' not in page
    assert "setRenderAzimuthElevation" not in page  # nor the program of a viewer that is not there
    assert {path.name for path in tmp_path.iterdir()} == {"large.png", "report.html"}
