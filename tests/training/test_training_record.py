"""What is written down about a run, and what of it a further stage or a resume keeps."""

import json
from dataclasses import replace

import pytest

from app.config import LOCATE
from app.training import record as room
from app.training.config import TrainingConfig
from app.training.record import LICENSE, PROVENANCE, write_record

CONFIG = TrainingConfig(steps=8, patch_shape=(4, 5, 6), batch_size=1)
OWN = {"provenance": "Trained on 7 scans.", "terms": "theirs"}


@pytest.fixture(autouse=True)
def code(monkeypatch):
    """Let the code be at any commit."""

    def is_at(commit):
        monkeypatch.setattr(room, "commit", lambda: commit)

    is_at("first")
    return is_at


def write(folder, cases=("a",), config=CONFIG, **more):
    folder.mkdir(exist_ok=True)
    write_record(folder, phase=LOCATE, config=config, cases=list(cases), **more)
    return json.loads((folder / "training.json").read_text())


def test_license_and_provenance_of_the_weights_begun_with_stay(tmp_path):
    write(tmp_path / "published")
    start = tmp_path / "published" / "checkpoint.safetensors"

    tuned = write(tmp_path / "tuned", ["b"], start_from=start, **OWN)

    assert tuned["license"] == "CC-BY-NC-4.0; theirs" == f"{LICENSE}; theirs"
    assert tuned["provenance"] == f"{PROVENANCE} In a later stage: Trained on 7 scans."
    assert len(tuned["training"]["stages"]) == 2
    assert tuned["training"]["cases"] == ["a", "b"]


def test_what_is_known_already_is_not_said_again(tmp_path):
    write(tmp_path / "published")
    start = tmp_path / "published" / "state.pt"
    again = write(tmp_path / "again", start_from=start)
    assert (again["license"], again["provenance"]) == (LICENSE, PROVENANCE)

    write(tmp_path / "one", start_from=start, **OWN)
    two = write(tmp_path / "two", start_from=tmp_path / "one" / "state.pt", **OWN)
    assert two["license"] == f"{LICENSE}; theirs"


def test_weights_without_a_record_are_not_given_away_as_free(tmp_path):
    tuned = write(tmp_path / "tuned", start_from=tmp_path / "found" / "state.pt", **OWN)

    assert tuned["license"].startswith("Unknown: ")
    assert "Unknown: found/state.pt came without a record" in tuned["provenance"]
    assert str(tmp_path) not in json.dumps(tuned)


def test_a_resume_adds_how_it_goes_on_and_keeps_how_it_began(tmp_path, code):
    begun = write(tmp_path)
    assert write(tmp_path, resumed_at=2) == begun  # nothing has changed

    code("second")
    longer = replace(CONFIG, steps=20)
    write(tmp_path, ["a", "c"], config=longer, resumed_at=5)
    resumed = write(tmp_path, ["a"], config=longer, resumed_at=6)

    training = resumed["training"]
    assert training["commit"] == "first"
    assert training["stages"] == begun["training"]["stages"]
    assert training["resumed"] == [{"step": 5, "commit": "second", "settings": {"steps": 20}}]
    assert training["cases"] == ["a", "c"]


def test_a_run_at_its_end_is_not_resumed_and_one_begun_anew_is_a_new_one(tmp_path, code):
    begun = write(tmp_path)
    code("second")

    assert write(tmp_path, resumed_at=8) == begun
    assert write(tmp_path)["training"]["commit"] == "second"


def test_who_began_a_run_without_a_record_is_unknown(tmp_path):
    training = write(tmp_path, resumed_at=3)["training"]

    assert training["commit"] == "unknown"
    assert training["resumed"] == [{"step": 3, "commit": "first", "settings": {}}]
