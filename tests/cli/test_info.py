import json

from app import __version__
from app.cli.main import main


def test_json_holds_what_other_programs_ask_for(stand_in_weights, capsys):
    assert main(["info", "--json", "--weights", str(stand_in_weights)]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["version"] == __version__
    assert facts["phases"]["locate"]["parameters"] == 3
    assert facts["phases"]["segment"]["gmacs_per_patch"] == 0.25
    assert len(facts["phases"]["segment"]["checksums"]["model.bin"]) == 64
    assert facts["phases"]["locate"]["provenance"] == "written by hand for tests"
    assert facts["cpu"]["precision"] in ("f32", "bf16")
    assert "FP32" in facts["cpu"]["features"]


def test_text_names_both_phases_and_the_precision(stand_in_weights, capsys):
    assert main(["info", "--weights", str(stand_in_weights)]) == 0
    shown = capsys.readouterr().out
    assert "locate" in shown
    assert "segment" in shown
    assert "--precision auto picks here" in shown


def test_missing_weights_are_named(tmp_path, capsys):
    assert main(["info", "--weights", str(tmp_path)]) == 2
    assert "manifest.json" in capsys.readouterr().err
