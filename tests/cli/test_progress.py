import io
import json
from pathlib import Path

import pytest

from app.cli.cases import Case
from app.cli.main import main
from app.cli.progress import STEP_SHARES, BatchProgress, case_fraction, clock


class Terminal(io.StringIO):
    def isatty(self):
        return True


def cases(*sizes):
    return [
        Case(name=name, scan_path=Path(name), label_path=Path(name), num_bytes=size)
        for name, size in zip("abc", sizes, strict=False)
    ]


def test_steps_add_up_to_a_case():
    assert sum(STEP_SHARES.values()) == pytest.approx(1)
    assert case_fraction("read", 0.0) == 0
    assert case_fraction("segment", 0.5) == pytest.approx(0.22 + 0.36)
    assert case_fraction("write", 1.0) == pytest.approx(1)


def test_time_left_goes_by_the_size_of_the_files_and_what_every_scan_costs(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("app.cli.progress.time.perf_counter", lambda: now[0])
    monkeypatch.setattr("app.cli.progress.FIXED_BYTES", 7)
    progress = BatchProgress(cases(23, 53, 3), "lines", out=io.StringIO())
    progress.begin(0)
    assert progress.seconds_left() is None
    now[0] += 6
    progress.end("ok")
    assert progress.seconds_left() == pytest.approx(6 * 70 / 30)
    progress.begin(1)
    progress.observe("segment", (0.5 - 0.22) / 0.72)  # half of the case
    assert progress.seconds_left() == pytest.approx(6 * 40 / 60)


def test_json_is_an_object_a_line_that_never_goes_back():
    out, err = io.StringIO(), io.StringIO()
    with BatchProgress(cases(1, 3), "json", out=out, err=err) as progress:
        progress.say("for people")
        progress.begin(0)
        for step, fraction in (("read", 0), ("segment", 0.5), ("locate", 0), ("write", 0)):
            progress.observe(step, fraction)
        progress.end("failed")
    told = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [one["step"] for one in told] == ["read", "segment", "locate", "write", "done"]
    fractions = [one["fraction"] for one in told]
    assert fractions == sorted(fractions)
    assert told[-1]["status"] == "failed"
    assert {"case": "a", "index": 1, "num_cases": 2}.items() <= told[0].items()
    assert err.getvalue() == "for people\n"


def test_a_log_gets_lines_and_a_terminal_gets_a_bar():
    log = io.StringIO()
    with BatchProgress(cases(1), "auto", out=log, err=io.StringIO()) as progress:
        progress.begin(0)
        progress.observe("segment", 0.5)
        progress.say("[1/1] a: [bold] 3 s")
    assert log.getvalue() == "[1/1] a: [bold] 3 s\n"
    terminal = Terminal()
    with BatchProgress(cases(1, 1), "auto", out=terminal, err=terminal) as progress:
        progress.begin(0)
        progress.observe("segment", 0.5)
        progress.say("[1/2] a: [bold] 3 s")
    assert "[1/2] a: [bold] 3 s" in terminal.getvalue()
    assert "58%" in terminal.getvalue()


@pytest.mark.parametrize(("seconds", "text"), [(None, "–"), (4.6, "0:05"), (65, "1:05")])
def test_clock(seconds, text):
    assert clock(seconds) == text


def test_predict_tells_machines_each_step(tmp_path, body, stand_in_weights, capsys):
    import SimpleITK as sitk

    hu, _, spacing_mm = body
    image = sitk.GetImageFromArray(hu)
    image.SetSpacing(spacing_mm[::-1])
    sitk.WriteImage(image, tmp_path / "a.nii.gz")
    arguments = ["--input", str(tmp_path / "a.nii.gz"), "--output", str(tmp_path / "labels")]
    arguments += ["--weights", str(stand_in_weights), "--threads", "1", "--progress", "json"]
    assert main(["predict", *arguments]) == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    steps = list(dict.fromkeys(one["step"] for one in told))
    assert steps == ["read", "locate", "segment", "restore", "check", "write", "done"]
    assert sum(one["step"] == "segment" for one in told) > 2  # after each patch
    assert told[-1]["fraction"] == 1
    assert told[-1]["status"] == "ok"
