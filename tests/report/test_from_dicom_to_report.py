"""The whole way of a person: a folder of DICOM files, one command, the opened report."""

import json

import pytest
from dicom_series import write_series

from app.cli.main import main


@pytest.fixture(scope="module")
def output(tmp_path_factory, body, stand_in_weights):
    """Give what `predict --preview` makes of a DICOM folder."""
    hu, _, spacing_mm = body
    folder = tmp_path_factory.mktemp("dicom")
    write_series(folder / "scans" / "patient & co", hu, spacing_mm=spacing_mm)
    arguments = ["predict", "--input", str(folder / "scans"), "--output", str(folder / "labels")]
    arguments += ["--weights", str(stand_in_weights), "--threads", "1", "--precision", "f32"]
    assert main([*arguments, "--preview"]) == 0
    return folder / "labels"


def test_a_dicom_folder_becomes_a_report_that_shows_it(browser, output):
    (case,) = json.loads((output / "run.json").read_text())["cases"]
    context = browser.new_context(viewport={"width": 1000, "height": 700})
    page = context.new_page()
    page.set_default_timeout(240_000)
    errors, requests = [], []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto((output / "report.html").as_uri())
    page.wait_for_function(
        "name => document.querySelector('#planes').dataset.case === name", arg="patient & co"
    )
    assert page.locator("#message").is_hidden()
    # The table tells the liver's volume, and the warning that it is small.
    row = page.locator("#table tbody").inner_text()
    assert f"{case['volumes_ml']['liver']:.0f}" in row
    assert case["warnings"][0] in row
    # The viewer stands in the middle of what was found, on a voxel of the scan.
    assert "HU" in page.inner_text("#value")
    assert page.locator("#picture-0 img").evaluate("image => image.decode().then(() => true)")
    width = page.locator("#picture-0 img").evaluate("image => image.naturalWidth")
    assert width > 500
    context.close()
    assert errors == []
    assert all(url.startswith(("file:", "data:", "blob:")) for url in requests)
