"""The page in a real browser, opened from a file, with the viewer drawing on WebGL."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from app.report.page import PageCase, page_parts

PATIENCE_MS = 240_000


@pytest.fixture
def page(browser, report_folder):
    """Give the page with its first case on screen; any error of its program fails the test."""
    context = browser.new_context(viewport={"width": 1000, "height": 700}, color_scheme="light")
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    errors, requests = [], []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto((report_folder / "report.html").as_uri())
    on_screen(page, "b & co")
    yield page
    context.close()
    assert not errors
    assert all(url.startswith(("file:", "data:", "blob:")) for url in requests)


def on_screen(page, case):
    page.wait_for_function(
        "name => document.querySelector('#planes').dataset.case === name", arg=case
    )


def pixels(page, viewer):
    """Draw one of the page's two canvases now and give what is on it."""
    drawn = page.evaluate(
        f"""() => {{
            {viewer}.drawScene();
            const copy = document.createElement("canvas");
            [copy.width, copy.height] = [{viewer}.canvas.width, {viewer}.canvas.height];
            copy.getContext("2d").drawImage({viewer}.canvas, 0, 0);
            return copy.toDataURL("image/png").split(",")[1];
        }}"""
    )
    image = Image.open(io.BytesIO(base64.b64decode(drawn))).convert("RGB")
    return np.asarray(image).astype(int)


def reddish(image):
    """Count pixels of the liver's hue; the spleen's has twice as much blue as green."""
    red, green, blue = np.moveaxis(image, -1, 0)
    return int(
        ((red > 1.25 * green) & (red > 1.25 * blue) & (red > 60) & (blue < 1.5 * green)).sum()
    )


def test_opens_and_draws_planes_and_surfaces(page):
    assert page.locator("#message").is_hidden()
    planes = pixels(page, "slices")
    assert reddish(planes) > 500  # the liver
    assert (planes.min(axis=-1) > 100).sum() > 500  # the body
    assert reddish(pixels(page, "surfaces")) > 200
    assert "HU" in page.inner_text("#value")


def test_keys_scroll_through_the_slices(page):
    place = page.inner_text("#place")
    # The middle of what was found, voxel 12.3 from the front and 9.5 from the patient's right.
    assert place.endswith("coronal 13/30 · sagittal 11/26")
    page.focus("#planes")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("PageUp")
    assert page.inner_text("#place").endswith("coronal 12/30 · sagittal 10/26")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("PageDown")
    before = pixels(page, "slices")
    page.focus("#planes")
    for _ in range(5):
        page.keyboard.press("ArrowUp")
    page.wait_for_function("old => document.querySelector('#place').textContent !== old", arg=place)
    axial = int(place.split()[1].split("/")[0])
    assert page.inner_text("#place").startswith(f"axial {axial + 5}/20")
    assert (pixels(page, "slices") != before).any()


def test_keys_turn_the_organs(page):
    front = pixels(page, "surfaces")
    page.focus("#organs")
    page.keyboard.press("ArrowLeft")
    assert page.evaluate("surfaces.scene.renderAzimuth") == 195
    assert (pixels(page, "surfaces") != front).any()
    for _ in range(12):
        page.keyboard.press("ArrowUp")
    assert page.evaluate("surfaces.scene.renderElevation") == 90


def test_a_page_without_viewer_sorts_its_table(browser, tmp_path):
    cases = [PageCase(entry={"name": name, "status": "failed"}) for name in ("b", "a")]
    (tmp_path / "report.html").write_text("".join(page_parts({}, cases)), encoding="utf-8")
    page = browser.new_page()
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto((tmp_path / "report.html").as_uri())
    page.locator("#table thead button", has_text="Case").click()
    assert [cell.inner_text() for cell in page.locator("#table tbody td:first-child").all()] == [
        "a",
        "b",
    ]
    page.close()
    assert not errors


def test_wheel_scrolls_through_the_slices(page):
    place, before = page.inner_text("#place"), pixels(page, "slices")
    left, top, width, height = page.evaluate("[...slices.screenSlices[0].leftTopWidthHeight]")
    share = page.evaluate("planes.clientWidth / planes.width")
    middle = {"x": share * (left + width / 2), "y": share * (top + height / 2)}
    page.locator("#planes").hover(position=middle)
    page.mouse.wheel(0, 100)
    page.wait_for_function("old => document.querySelector('#place').textContent !== old", arg=place)
    assert (pixels(page, "slices") != before).any()
    axial = [int(text.split()[1].split("/")[0]) for text in (place, page.inner_text("#place"))]
    assert axial[1] < axial[0]  # toward the feet, as the arrow key that points down


def test_outlines_alone_leave_the_organs_gray_inside(page):
    filled = reddish(pixels(page, "slices"))
    page.evaluate(
        """() => {
            window.uploads = 0;
            for (const viewer of [slices, surfaces]) {
                const update = viewer.updateGLVolume.bind(viewer);
                viewer.updateGLVolume = () => { window.uploads += 1; update(); };
            }
        }"""
    )
    page.check("#outline")
    assert page.evaluate("window.uploads") == 1
    outlined = reddish(pixels(page, "slices"))
    assert 0.02 * filled < outlined < 0.7 * filled
    page.uncheck("#organ-1")
    assert reddish(pixels(page, "slices")) < outlined / 10  # no outline of what is hidden
    page.click("#all-organs")
    page.uncheck("#outline")
    assert reddish(pixels(page, "slices")) == pytest.approx(filled, rel=0.05)


def test_an_organ_can_be_hidden_and_shown(page):
    with_liver, surface = reddish(pixels(page, "slices")), reddish(pixels(page, "surfaces"))
    page.uncheck("#organ-1")
    assert reddish(pixels(page, "slices")) < with_liver / 10
    assert reddish(pixels(page, "surfaces")) < surface / 10
    page.click("#all-organs")
    assert page.is_checked("#organ-1")
    assert reddish(pixels(page, "slices")) == pytest.approx(with_liver, rel=0.05)


def test_opacity_fades_the_organs(page):
    before = reddish(pixels(page, "slices"))
    page.fill("#opacity", "0")
    assert page.inner_text("#opacity-value") == "0 %"
    assert reddish(pixels(page, "slices")) < before / 10


def test_a_name_in_the_table_opens_its_case(page):
    page.click("button.name >> nth=1")
    on_screen(page, "<i>a")
    page.click("#previous")
    on_screen(page, "b & co")


def test_table_is_sorted_and_filtered(page):
    def names():
        cells = page.locator("#table tbody:not([hidden]) td[data-value]:first-child").all()
        return [cell.get_attribute("data-value") for cell in cells]

    time = page.locator("#table thead button", has_text="Time")
    time.click()
    assert names() == ["<i>a", "b & co", "c"]  # 3.25 s, 12.5 s, none
    time.click()
    assert names() == ["b & co", "<i>a", "c"]
    flags = page.locator("#table thead button", has_text="Flags")
    flags.click()
    flags.click()
    assert names() == ["b & co", "<i>a", "c"]  # 2 flags, 0, none
    page.select_option("#status", "look")
    assert names() == ["b & co"]
    page.select_option("#status", "all")
    page.fill("#search", "cut <short>")
    assert names() == ["c"]
    assert page.inner_text("#count") == "1 of 3 cases"


def test_page_of_one_case_shows_all_organs_and_no_way_to_others(browser, report_of_one):
    page = browser.new_page(viewport={"width": 1300, "height": 700})
    page.set_default_timeout(PATIENCE_MS)
    page.goto((report_of_one / "report.html").as_uri())
    on_screen(page, "a")
    assert page.locator("#next").is_hidden()
    table = page.locator(".scroll")
    needed, given = table.evaluate("one => [one.scrollWidth, one.clientWidth]")
    assert needed <= given
    page.close()


def test_a_picture_grows_to_the_full_width_and_back(page):
    def width():
        return page.locator("#picture-0").bounding_box()["width"]

    page.set_viewport_size({"width": 1500, "height": 700})
    beside = width()
    page.locator("#picture-0 button").click()
    assert width() > beside
    page.locator("#picture-0 button").click()
    assert width() == beside


def test_no_control_is_cut_off_in_a_narrow_window(page):
    page.set_viewport_size({"width": 420, "height": 800})
    for name in ("window", "planes-shown", "status", "search"):
        box = page.locator(f"#{name}").bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 420
    for length in range(1, 30):  # wherever the line breaks, both ways to go stay together
        page.evaluate(f"document.querySelector('#case-name').textContent = '{length * 'a'}'")
        previous, following = (page.locator(name).bounding_box() for name in ("#previous", "#next"))
        assert previous["y"] == following["y"]
    assert page.evaluate("document.documentElement.scrollWidth") <= 420


def test_dark_and_light(page):
    def brightness():
        color = page.evaluate("getComputedStyle(document.body).backgroundColor")
        return sum(int(part) for part in re.findall(r"\d+", color)[:3]) / 3

    assert brightness() > 200
    page.click("#theme")
    assert brightness() < 60
