import dataclasses
import json
from pathlib import Path

import pytest

from app.config import LOCATE, SEGMENT
from app.errors import WeightsError
from app.manifest import Manifest, check_recorded, checksums, sha256_of

WEIGHTS = Path(__file__).parents[1] / "weights"
MANIFEST = Manifest(
    config=SEGMENT,
    files={"model.xml": "00ff"},
    parameters=9_373_994,
    gmacs_per_patch=25.54,
    license="Apache-2.0",
    provenance="made up",
    training={"steps": 3, "seeds": [1, 2]},
)


@pytest.mark.parametrize("config", [LOCATE, SEGMENT])
def test_manifest_survives_the_way_through_json(config):
    manifest = dataclasses.replace(MANIFEST, config=config)
    assert Manifest.from_json(manifest.to_json()) == manifest


def test_json_holds_the_label_table():
    assert json.loads(MANIFEST.to_json())["labels"]["13"] == "left_kidney"


def test_config_comes_back_with_tuples_not_lists():
    assert Manifest.from_json(MANIFEST.to_json()).config == MANIFEST.config


def changed(**fields):
    return json.dumps(json.loads(MANIFEST.to_json()) | fields)


CONFIG = json.loads(MANIFEST.to_json())["config"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[]", "object"),
        (changed(manifest_version=99), "version 99"),
        (changed(config={}), "describe a network"),
        (changed(config=None), "describe a network"),
        (changed(config=CONFIG | {"patch_divisor": 0}), "describe a network"),
        (changed(config=CONFIG | {"window_hu": []}), "describe a network"),
        (changed(files=["model.xml"]), "checksum of each file"),
        (changed(surplus=1), "surplus"),
        (changed(labels={"0": "background"}), "labels"),
    ],
)
def test_what_is_no_manifest_is_refused(text, message):
    with pytest.raises(WeightsError, match=message):
        Manifest.from_json(text)


def test_checksum_is_that_of_the_published_test_vector(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256_of(tmp_path / "abc") == expected
    assert checksums(tmp_path, ["abc"]) == {"abc": expected}


def test_weights_are_held_against_their_record_if_it_names_any(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes(b"abc")
    check_recorded(path, {})  # from before checksums were written down
    check_recorded(path, {"files": {"best.safetensors": sha256_of(path)}})

    for files in ({}, {path.name: "00ff"}, [sha256_of(path)]):
        with pytest.raises(WeightsError, match=r"SHA-256 ba7816.*training\.json does not name"):
            check_recorded(path, {"files": files})


@pytest.mark.parametrize("phase", ["locate", "segment"])
def test_the_shipped_checkpoints_are_those_of_their_records(phase):
    record = json.loads((WEIGHTS / phase / "training.json").read_text())
    path = WEIGHTS / phase / "checkpoint.safetensors"

    assert record["files"] == checksums(path.parent, [path.name])
    # Nor was the network in use converted from another.
    assert Manifest.from_json((WEIGHTS / phase / "manifest.json").read_text()).files[path.name] == (
        sha256_of(path)
    )
