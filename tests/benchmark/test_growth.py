from dataclasses import replace

import pytest

from app.benchmark.curve import Curve
from app.benchmark.growth import (
    BOX_CASES,
    GROWTH_CASES,
    SLICE_CASES,
    box_liters,
    fit_line,
    growth_of,
    growth_table,
)
from app.benchmark.plots import plot_curves, plot_growth


def record(start, stop):
    return {"cases": [{"seconds": {}, "box": {"start": start, "stop": stop}}]}


@pytest.fixture
def results(make_run, make_result):
    """Give a system of 2 s and 0.5 s per 100 slices, 100 MiB and 40 MiB per 100 slices."""
    found = []
    for case in SLICE_CASES:
        hundreds = case.shape[0] / 100
        run = make_run(wall_s=2 + 0.5 * hundreds, peak_mib=100 + 40 * hundreds)
        found.append(make_result([run], name=case.name, shape=case.shape))
    return found


def test_one_body_is_cut_into_slices_and_one_count_of_slices_spans_ever_more():
    assert {case.shape[0] * case.spacing_mm[0] for case in SLICE_CASES} == {400.0}
    assert {case.shape for case in BOX_CASES} == {(160, 512, 512)}
    assert len({case.name for case in GROWTH_CASES}) == len(GROWTH_CASES)


def test_line_through_points_on_a_line_is_that_line():
    line = fit_line([1.0, 2.0, 4.0], [5.0, 7.0, 11.0])
    assert (line.slope, line.start, line.r_squared) == pytest.approx((2.0, 3.0, 1.0))
    assert fit_line([1.0, 2.0], [3.0, 3.0]).r_squared == 1.0


def test_slopes_are_those_of_the_system(results):
    (growth,) = growth_of(results)
    assert growth.unit == "100 slices"
    assert (growth.seconds.slope, growth.seconds.start) == pytest.approx((0.5, 2.0))
    assert growth.cpu_s.slope == pytest.approx(0.0, abs=1e-9)
    assert (growth.peak_mib.slope, growth.peak_mib.start) == pytest.approx((40.0, 100.0))
    head, _, row = growth_table([growth]).splitlines()
    assert head == "| grows with | measured at | time | processor time | peak memory |"
    assert row == (
        "| slices of 512×512, one body | 80 to 640 slices "
        "| 2.0 s + 0.5 per 100 slices (R² 1.00) | 2.5 CPU·s + 0.0 per 100 slices (R² 1.00) "
        "| 100 MiB + 40 per 100 slices (R² 1.00) |"
    )


def test_growth_with_the_box_is_told_in_liters_and_falling_cost_with_a_minus(make_run, make_result):
    found = [
        make_result(
            [make_run(wall_s=wall_s, record=record([0, 0, 0], [160, stop, 512]))], name=name
        )
        for name, wall_s, stop in (("span100", 4.0, 200), ("span300", 1.0, 400))
    ]
    (growth,) = growth_of(found)
    *_, row = growth_table([growth]).splitlines()
    # 400 x 160 x 358.4 mm and twice as much, 22.9 l apart.
    assert row.startswith(
        "| located box, 160 slices | 22.9 to 45.9 l | 7.0 s - 0.1 per liter (R² 1.00) |"
    )


def test_box_volume_is_physical_and_half_open(make_run, make_result):
    # 10 x 100 x 200 voxels of 2.5 x 0.8 x 0.7 mm are 25 x 80 x 140 mm.
    result = make_result([make_run(record=record([5, 0, 7], [15, 100, 207]))])
    assert box_liters(result) == pytest.approx(0.28)
    for other in ({}, {"cases": [{"box": [1, 2]}]}, {"cases": [{"box": {"start": "a"}}]}):
        assert box_liters(make_result([make_run(record=other)])) is None


def test_one_point_is_no_line(results):
    assert growth_of(results[:1]) == []


def test_pictures_are_written(results, make_run, make_result, tmp_path):
    plot_growth(tmp_path / "growth.png", growth_of(results))
    plot_curves(tmp_path / "case.png", make_result([make_run(), make_run()], [make_run()]))
    plot_curves(tmp_path / "none.png", make_result([make_run(curve=Curve(()))]))
    for name in ("growth.png", "case.png", "none.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
        assert (tmp_path / name).stat().st_size < 100_000


def test_names_that_look_like_formulas_are_shown_as_they_stand(make_run, make_result, tmp_path):
    """Between two dollars matplotlib reads a formula, and ends where it is none."""
    plot_curves(tmp_path / "name.png", make_result([make_run()], name=r"from $\x to $"))
    odd = make_result([make_run()], [make_run()])
    plot_curves(
        tmp_path / "tool.png", replace(odd, theirs=replace(odd.theirs, system=r"a $\x to $"))
    )
    assert {path.name for path in tmp_path.iterdir()} == {"name.png", "tool.png"}


def test_a_command_longer_than_the_picture_is_wide_leaves_room_for_the_curves(
    make_run, make_result, tmp_path
):
    """Else the layout gives up, with a warning, and the warning is an error here."""
    result = make_result([make_run()])
    long = replace(result, ours=replace(result.ours, system="/a/long/path/tool " * 20))
    plot_curves(tmp_path / "case.png", long)
    assert (tmp_path / "case.png").read_bytes().startswith(b"\x89PNG")
