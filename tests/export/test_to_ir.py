import json
import os
from dataclasses import asdict, replace

import numpy as np
import openvino as ov
import pytest
import torch
from safetensors.torch import load_file, save_file

from app.cascade.bundle import open_phase, read_manifest
from app.config import LOCATE, SEGMENT
from app.errors import OutputError, ParityError, WeightsError
from app.export import parity, to_ir
from app.export.to_ir import export_phase, open_checkpoint
from app.manifest import sha256_of
from app.models.build import build_network

CONFIGS = {
    "locate": replace(LOCATE, patch_shape=(32, 64, 96)),
    "segment": replace(SEGMENT, patch_shape=(32, 48, 64), depths=(1, 1, 2, 1)),
}


def write_checkpoint(folder, config):
    """A network with random weights, stored as training stores one."""
    torch.manual_seed(4)
    network = build_network(config)
    folder.mkdir(parents=True)
    tensors = {
        name: tensor.half() if tensor.dtype.is_floating_point else tensor
        for name, tensor in network.state_dict().items()
    }
    save_file(tensors, folder / "checkpoint.safetensors")
    record = {"config": asdict(config), "license": "none", "provenance": "random numbers"}
    (folder / "training.json").write_text(json.dumps(record | {"training": {"stages": []}}))
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.fixture(scope="module", params=["locate", "segment"])
def exported(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights") / request.param
    num_parameters = write_checkpoint(folder, CONFIGS[request.param])
    return folder, export_phase(folder, folder), num_parameters


def test_the_runtime_opens_what_was_exported(exported):
    folder, _, num_parameters = exported

    phase = open_phase(folder, folder.name)

    assert phase.config == CONFIGS[folder.name]
    assert phase.network.patch_shape == CONFIGS[folder.name].patch_shape
    assert read_manifest(folder, folder.name).parameters == num_parameters


def test_the_manifest_states_what_the_conversion_measured(exported):
    _, manifest, _ = exported

    assert manifest.conversion["largest_logit_difference"] <= 1e-3
    assert manifest.conversion["checkpoint_rounding"] is None  # nobody had to know
    assert manifest.conversion["equal_argmax"] >= 0.9999
    assert set(manifest.files) == {"model.xml", "model.bin", "checkpoint.safetensors"}
    assert manifest.provenance == "random numbers"


def test_what_float32_costs_the_checkpoint_is_found_out_where_it_matters(exported, monkeypatch):
    folder, _, _ = exported
    network = to_ir.open_checkpoint(folder).network
    monkeypatch.setattr(parity, "LARGEST_DIFFERENCE", 0.0)
    monkeypatch.setattr(parity, "ROUNDING_FACTOR", 1e3)

    found = parity.check_parity(network, folder / "model.xml", CONFIGS[folder.name])

    assert 0 < found.largest_rounding < 1e-3
    assert found.largest_difference > 0

    monkeypatch.setattr(parity, "ROUNDING_FACTOR", 1e-3)
    with pytest.raises(ParityError, match="nothing was published"):
        parity.check_parity(network, folder / "model.xml", CONFIGS[folder.name])


def test_weights_that_fit_float16_are_stored_in_it(exported):
    folder, _, num_parameters = exported

    # Folding drops some parameters and writes block-diagonal matrices out.
    assert (folder / "model.bin").stat().st_size < 2.5 * num_parameters
    assert not list(folder.glob(".draft*"))


def test_a_prepared_network_has_nothing_left_to_unpack_and_the_same_scores(exported, tmp_path):
    folder, _, _ = exported
    prepared = tmp_path / folder.name
    export_phase(folder, prepared, prepared=True)
    kinds = [
        [node.get_type_name() for node in ov.Core().read_model(place / "model.xml").get_ops()]
        for place in (folder, prepared)
    ]
    assert "Convert" in kinds[0]
    assert "Convert" not in kinds[1]
    assert len(kinds[1]) < len(kinds[0]) - kinds[0].count("Convert")
    assert not list(prepared.glob(".draft*"))
    networks = [
        open_phase(place, folder.name, precision="f32").network for place in (folder, prepared)
    ]
    (patch, _) = parity.phantom_patches(CONFIGS[folder.name])
    plain, same = (network.run(patch).copy() for network in networks)
    np.testing.assert_allclose(same, plain, atol=1e-4)


def test_a_changed_byte_is_refused(exported, tmp_path):
    folder, _, _ = exported
    copy = tmp_path / folder.name
    copy.mkdir()
    for file in folder.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    binary = bytearray((copy / "model.bin").read_bytes())
    binary[len(binary) // 2] ^= 1
    (copy / "model.bin").write_bytes(binary)

    with pytest.raises(WeightsError, match=r"model\.bin.*SHA-256"):
        open_phase(copy, folder.name)


def test_a_network_that_differs_from_its_checkpoint_is_not_published(tmp_path, monkeypatch):
    folder = tmp_path / "locate"
    write_checkpoint(folder, CONFIGS["locate"])
    plain_fold = to_ir.fold

    def broken_fold(network):
        folded = plain_fold(network)
        with torch.no_grad():
            folded.scales[3].weight.add_(0.5)
        return folded

    monkeypatch.setattr(to_ir, "fold", broken_fold)

    with pytest.raises(ParityError, match="nothing was published"):
        export_phase(folder, folder)

    assert sorted(file.name for file in folder.iterdir()) == [
        "checkpoint.safetensors",
        "training.json",
    ]


def test_a_checkpoint_whose_scores_are_no_numbers_is_not_published(tmp_path):
    folder = tmp_path / "locate"
    write_checkpoint(folder, CONFIGS["locate"])
    path = folder / "checkpoint.safetensors"
    tensors = load_file(path)
    tensors["decoder.fusion.bias"][0] = torch.inf  # as a weight that float16 cannot hold
    save_file(tensors, path)

    with pytest.raises(ParityError, match=r"checkpoint gives .* not finite.*nothing was published"):
        export_phase(folder, folder)

    assert not (folder / "manifest.json").exists()


@pytest.mark.parametrize("in_the_way", ["output", "output/model.xml"])
def test_an_output_that_cannot_be_written_is_named_and_no_draft_left(tmp_path, in_the_way):
    write_checkpoint(tmp_path / "locate", CONFIGS["locate"])
    output = tmp_path / "output"
    if in_the_way == "output":
        output.write_text("no folder")
    else:
        (tmp_path / in_the_way).mkdir(parents=True)

    with pytest.raises(OutputError, match=r"output.*: cannot be written to .*; give another"):
        export_phase(tmp_path / "locate", output / "locate" if output.is_file() else output)

    assert not list(tmp_path.rglob(".draft*"))


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_a_folder_without_the_right_to_write_is_named_before_anything_is_converted(
    tmp_path, monkeypatch
):
    write_checkpoint(tmp_path / "locate", CONFIGS["locate"])
    (tmp_path / "output").mkdir(mode=0o500)
    monkeypatch.setattr(to_ir, "to_ir", None)

    with pytest.raises(OutputError, match="output: cannot be written to"):
        export_phase(tmp_path / "locate", tmp_path / "output")


@pytest.mark.parametrize("field", ["license", "provenance"])
def test_a_record_that_lacks_what_the_manifest_tells_leaves_the_former_network_alone(
    tmp_path, field
):
    folder = tmp_path / "locate"
    write_checkpoint(folder, CONFIGS["locate"])
    path = folder / "training.json"
    record = json.loads(path.read_text())
    del record[field]
    path.write_text(json.dumps(record))
    (folder / "model.bin").write_bytes(b"former")

    with pytest.raises(WeightsError, match=rf"no usable checkpoint .*training\.json.*{field}"):
        export_phase(folder, folder)

    assert (folder / "model.bin").read_bytes() == b"former"


def test_parity_is_measured_on_phantoms_and_not_on_noise():
    patches = parity.phantom_patches(CONFIGS["segment"])

    assert [patch.shape for patch in patches] == [(32, 48, 64)] * 2
    for patch in patches:
        assert len(np.unique(patch)) > 100
        assert -2 <= patch.min() < 0 < patch.max() <= 2


def test_a_checkpoint_of_another_network_is_named(tmp_path):
    folder = tmp_path / "segment"
    write_checkpoint(folder, CONFIGS["locate"])
    record = json.loads((folder / "training.json").read_text())
    record["config"] = asdict(CONFIGS["segment"])
    (folder / "training.json").write_text(json.dumps(record))

    with pytest.raises(WeightsError, match="segment: no usable checkpoint"):
        export_phase(folder, folder)


def test_a_checkpoint_that_its_record_does_not_speak_of_is_not_converted(tmp_path):
    folder = tmp_path / "locate"
    write_checkpoint(folder, CONFIGS["locate"])
    path = folder / "checkpoint.safetensors"
    record = json.loads((folder / "training.json").read_text())
    # As a run leaves it whose best weights are used under the other name.
    record["files"] = {"checkpoint.safetensors": "00ff", "best.safetensors": sha256_of(path)}
    (folder / "training.json").write_text(json.dumps(record))
    assert open_checkpoint(folder).record == record

    changed = bytearray(path.read_bytes())
    changed[-2] ^= 1  # of the last weight: a network like any other
    path.write_bytes(changed)

    with pytest.raises(WeightsError, match=r"checkpoint\.safetensors: SHA-256 .*restore the file"):
        export_phase(folder, folder)


@pytest.mark.parametrize("size", [0, 5, -50])
def test_a_checkpoint_that_is_cut_short_is_named(tmp_path, size):
    folder = tmp_path / "locate"
    write_checkpoint(folder, CONFIGS["locate"])
    path = folder / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:size])

    with pytest.raises(WeightsError, match="locate: no usable checkpoint"):
        open_checkpoint(folder)


def test_halves_are_lossless():
    keeps, loses = np.float32([0.5, 1.25, -3.0]), np.float32([0.1, 0.2, 0.3])
    x = ov.opset13.parameter([3], ov.Type.f32)
    total = ov.opset13.add(ov.opset13.multiply(x, keeps), loses)
    model = ov.Model([total], [x])

    to_ir._store_halves(model)

    kinds = sorted(
        node.get_element_type().get_type_name()
        for node in model.get_ops()
        if node.get_type_name() == "Constant"
    )
    assert kinds == ["f16", "f32"]
    found = ov.compile_model(model, "CPU")([np.float32([2, 4, 6])])[0]
    np.testing.assert_allclose(found, keeps * [2, 4, 6] + loses, rtol=1e-6)
