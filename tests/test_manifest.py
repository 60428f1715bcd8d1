import dataclasses
import json

import pytest

from app.config import LOCATE, SEGMENT
from app.errors import WeightsError
from app.manifest import Manifest, checksums, sha256_of

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


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[]", "object"),
        (changed(manifest_version=99), "version 99"),
        (changed(config={}), "describe a network"),
        (changed(config=None), "describe a network"),
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
