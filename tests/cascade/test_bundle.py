import dataclasses
import json
import shutil

import pytest

from app.cascade import bundle
from app.cascade.bundle import open_cascade, open_phase, read_manifest
from app.config import DEFAULT_WEIGHTS
from app.errors import WeightsError
from app.manifest import Manifest


@pytest.fixture
def folder(stand_in_weights, tmp_path):
    """Give a copy of the locator's folder, free to be spoiled."""
    return shutil.copytree(stand_in_weights / "locate", tmp_path / "locate")


def spoil(folder, **fields):
    path = folder / "manifest.json"
    manifest = Manifest.from_json(path.read_text())
    path.write_text(dataclasses.replace(manifest, **fields).to_json())
    return manifest.config


def test_phase_opens_with_its_own_configuration(folder):
    phase = open_phase(folder, "locate", threads=1, precision="f32")
    assert phase.config.patch_shape == phase.network.patch_shape == (32, 64, 32)
    assert phase.network.num_channels == 1


def test_phase_two_is_not_compiled_where_phase_one_alone_is_run(stand_in_weights, monkeypatch):
    compiled, network = [], bundle.CpuNetwork

    def compile_network(path, **options):
        compiled.append(path.parent.name)
        return network(path, **options)

    monkeypatch.setattr(bundle, "CpuNetwork", compile_network)
    cascade = open_cascade(
        stand_in_weights, memory_limit_bytes=8 * 2**30, threads=1, locate_only=True
    )
    assert cascade.locate.network.num_channels == 1
    assert cascade.compile_s() > 0
    assert cascade.threads() == 1
    assert compiled == ["locate"]
    # Who asks for it all the same gets it.
    assert cascade.segment.network.num_channels == 14
    assert compiled == ["locate", "segment"]


@pytest.mark.parametrize("name", ["manifest.json", "model.xml", "model.bin"])
def test_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(WeightsError, match=name):
        read_manifest(folder, "locate")


@pytest.mark.parametrize("name", ["model.xml", "model.bin"])
def test_changed_file_is_refused(folder, name):
    with (folder / name).open("ab") as stream:
        stream.write(b" ")
    with pytest.raises(WeightsError, match=f"{name}: SHA-256"):
        read_manifest(folder, "locate")


def test_file_without_checksum_is_refused(folder):
    spoil(folder, files={})
    with pytest.raises(WeightsError, match="no checksum"):
        read_manifest(folder, "locate")


def test_weights_of_the_other_phase_are_refused(folder):
    with pytest.raises(WeightsError, match="'segment' expected"):
        read_manifest(folder, "segment")


def test_other_preprocessing_is_refused(folder):
    config = Manifest.from_json((folder / "manifest.json").read_text()).config
    spoil(folder, config=dataclasses.replace(config, preprocessing_version=99))
    with pytest.raises(WeightsError, match="preprocessing 99"):
        read_manifest(folder, "locate")


def test_other_classes_are_refused(folder):
    config = Manifest.from_json((folder / "manifest.json").read_text()).config
    spoil(folder, config=dataclasses.replace(config, class_names=("background", "lesion")))
    with pytest.raises(WeightsError, match="lesion"):
        read_manifest(folder, "locate")


def test_network_of_another_patch_size_is_refused(folder):
    config = Manifest.from_json((folder / "manifest.json").read_text()).config
    spoil(folder, config=dataclasses.replace(config, patch_shape=(32, 32, 32)))
    phase = open_phase(folder, "locate", threads=1)
    with pytest.raises(WeightsError, match=r"\(32, 64, 32\)"):
        _ = phase.network.patch_shape


@pytest.mark.parametrize("content", [b"{}", b"{\xff}"])
def test_what_is_no_manifest_is_named(folder, content):
    (folder / "manifest.json").write_bytes(content)
    with pytest.raises(WeightsError, match=r"manifest\.json: .*export again"):
        read_manifest(folder, "locate")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"window_hu": [\n      -250.0', '"window_hu": [\n      -950.0'),
        ('"spacing_mm": [\n      ', '"spacing_mm": [\n      1'),
        ('"overlap": 0.', '"overlap": 0.1'),
        ('"config_sha256": "', '"config_sha256": "0'),
    ],
)
def test_changed_byte_in_the_configuration_is_refused(folder, old, new):
    path = folder / "manifest.json"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(WeightsError, match=r"manifest\.json: SHA-256 of config .* export again"):
        read_manifest(folder, "locate")


def test_field_taken_out_of_the_configuration_is_refused(folder):
    path = folder / "manifest.json"
    record = json.loads(path.read_text())
    del record["config"]["preprocessing_version"]  # its default would take its place
    path.write_text(json.dumps(record))
    with pytest.raises(WeightsError, match="SHA-256 of config"):
        read_manifest(folder, "locate")


def test_manifest_from_before_the_configuration_had_a_checksum_is_read(folder):
    path = folder / "manifest.json"
    record = json.loads(path.read_text())
    config = read_manifest(folder, "locate").config
    del record["config_sha256"]
    path.write_text(json.dumps(record))
    assert read_manifest(folder, "locate").config == config


@pytest.mark.parametrize("name", ["locate", "segment"])
def test_weights_that_came_with_the_program_are_whole(name):
    read_manifest(DEFAULT_WEIGHTS / name, name)


@pytest.mark.parametrize("precision", ["auto", "f32", "bf16"])
def test_phase_one_computes_in_full_precision_whatever_phase_two_does(monkeypatch, precision):
    compiled = {}

    def note(folder, config, *, threads, precision):
        compiled[config.name] = precision

    monkeypatch.setattr(bundle, "_compile", note)

    cascade = open_cascade(DEFAULT_WEIGHTS, memory_limit_bytes=2**33, precision=precision)
    cascade.compile_s()

    assert compiled == {"locate": "f32", "segment": precision}
