"""Convert a checkpoint to OpenVINO IR and describe it in a manifest."""

import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import torch
from openvino import opset13 as opset
from openvino._offline_transformations import apply_moc_transformations
from openvino.tools.ovc import convert_model
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from app.cascade.engine import INPUT_NAME, engine_version
from app.config import PhaseConfig
from app.errors import OutputError, WeightsError
from app.export.parity import check_parity
from app.manifest import (
    CHECKPOINT_NAME,
    MANIFEST_NAME,
    MODEL_NAME,
    MODEL_WEIGHTS_NAME,
    TRAINING_NAME,
    Manifest,
    check_recorded,
    checksums,
    config_from_json,
)
from app.models.build import build_network
from app.models.fold import FoldedLocator, fold_segmenter
from app.models.locator import Locator
from app.models.macs import count_macs

OUTPUT_NAME = "scores"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A trained network and what is known about it.

    Parameters
    ----------
    network : nn.Module
        In evaluation mode, float32.
    config : PhaseConfig
        What it was trained with.
    record : dict
        The whole ``training.json``.
    """

    network: nn.Module
    config: PhaseConfig
    record: dict[str, Any]


def open_checkpoint(folder: Path) -> Checkpoint:
    """Read ``checkpoint.safetensors`` and ``training.json`` of one phase.

    Raises
    ------
    WeightsError
        If one of them is missing, damaged or of another network, or the checkpoint is none
        that the run of ``training.json`` has written.
    """
    try:
        record = json.loads((folder / TRAINING_NAME).read_text(encoding="utf-8"))
        config = config_from_json(record["config"])
        check_recorded(folder / CHECKPOINT_NAME, record)
        network = build_network(config)
        network.load_state_dict(load_file(folder / CHECKPOINT_NAME))
    except (OSError, ValueError, LookupError, TypeError, RuntimeError, SafetensorError) as error:
        raise WeightsError(f"{folder}: no usable checkpoint ({error})") from error
    for field in ("license", "provenance"):
        if field not in record:
            raise WeightsError(
                f"{folder}: no usable checkpoint ({TRAINING_NAME} does not tell its {field}, "
                "which the manifest passes on; write it there)"
            )
    return Checkpoint(network=network.eval(), config=config, record=record)


def fold(network: nn.Module) -> nn.Module:
    """Simplify a network exactly for inference; the locator then gives one logit difference."""
    return FoldedLocator(network) if isinstance(network, Locator) else fold_segmenter(network)  # type: ignore[arg-type]


def _store_halves(model: ov.Model) -> None:
    """Store as float16 those constants that lose nothing by it, in place.

    Weights come from a float16 checkpoint. What folding has computed does not fit
    float16 exactly and stays float32, so that the IR equals its checkpoint.
    """
    for node in model.get_ops():
        if node.get_type_name() != "Constant" or node.get_element_type() != ov.Type.f32:
            continue
        values = node.data
        halves = values.astype(np.float16)
        if values.size > 1 and np.array_equal(halves.astype(np.float32), values):
            restored = opset.convert(opset.constant(halves), "f32")
            for target in node.output(0).get_target_inputs():
                target.replace_source_output(restored.output(0))


def to_ir(network: nn.Module, config: PhaseConfig, *, halves: bool = True) -> ov.Model:
    """Convert a folded network to an IR over single patches.

    Parameters
    ----------
    network : nn.Module
        (1, 1, Z, Y, X) to (1, C, Z, Y, X).
    config : PhaseConfig
        Size of the patch.
    halves : bool
        Whether to store weights as float16 where they fit.

    Returns
    -------
    openvino.Model
        Input ``patch``, output ``scores``, both of static shape.
    """
    shape = (1, 1, *config.patch_shape)
    with torch.no_grad(), warnings.catch_warnings():
        # OpenVINO's converter still traces modules this way.
        warnings.filterwarnings("ignore", message=r".*torch\.jit", category=DeprecationWarning)
        model = convert_model(
            network, example_input=torch.zeros(shape), input=[ov.PartialShape(shape)]
        )
    model.inputs[0].get_tensor().set_names({INPUT_NAME})
    model.outputs[0].get_tensor().set_names({OUTPUT_NAME})
    if halves:
        _store_halves(model)
    return model


def _simplify(path: Path) -> None:
    """Do to a stored IR what the engine does to each network before it compiles it.

    These are its simplifications for processors of any kind. Of a model that was not stored
    and read again they would fold next to nothing.
    """
    model = ov.Core().read_model(path)
    apply_moc_transformations(model, cf=True)
    # Under another name, for what was read is still mapped.
    simplified = path.with_stem(f"{path.stem}_simplified")
    ov.save_model(model, simplified, compress_to_fp16=False)
    simplified.with_suffix(".bin").replace(path.with_suffix(".bin"))
    simplified.replace(path)


def export_phase(source: Path, output: Path, *, prepared: bool = False) -> Manifest:
    """Convert one phase and publish it if it equals its checkpoint.

    Parameters
    ----------
    source : Path
        Folder with ``checkpoint.safetensors`` and ``training.json``.
    output : Path
        Folder for ``model.xml``, ``model.bin`` and ``manifest.json``; may be the same.
    prepared : bool
        Whether to do ahead what else is done at every start: weights in float32, about twice as
        large, and the graph simplified.

    Returns
    -------
    Manifest
        As written.

    Raises
    ------
    WeightsError
        If there is no usable checkpoint.
    ParityError
        If IR and checkpoint differ; nothing is published then.
    OutputError
        If the output cannot be written.
    """
    checkpoint = open_checkpoint(source)
    try:
        return _publish(checkpoint, source, output, prepared=prepared)
    except OSError as error:
        raise OutputError(
            f"{output}: cannot be written to ({error}); give another --output, or make room there"
        ) from error


def _publish(checkpoint: Checkpoint, source: Path, output: Path, *, prepared: bool) -> Manifest:
    """Convert a checkpoint, compare both, and put the files in place."""
    folded = fold(checkpoint.network)
    output.mkdir(parents=True, exist_ok=True)
    draft = output / f".draft_{MODEL_NAME}"
    draft.touch()  # before the work: OpenVINO's own error would tell little
    try:
        model = to_ir(folded, checkpoint.config, halves=not prepared)
        ov.save_model(model, draft, compress_to_fp16=False)
        if prepared:
            _simplify(draft)
        parity = check_parity(checkpoint.network, draft, checkpoint.config)
        draft.with_suffix(".bin").replace(output / MODEL_WEIGHTS_NAME)
        draft.replace(output / MODEL_NAME)
    finally:
        for leftover in output.glob(f"{draft.stem}*"):
            leftover.unlink()
    record = checkpoint.record
    manifest = Manifest(
        config=checkpoint.config,
        files=checksums(output, (MODEL_NAME, MODEL_WEIGHTS_NAME))
        | checksums(source, (CHECKPOINT_NAME,)),
        parameters=sum(parameter.numel() for parameter in checkpoint.network.parameters()),
        gmacs_per_patch=round(
            count_macs(checkpoint.network, checkpoint.config.patch_shape) / 1e9, 3
        ),
        license=record["license"],
        provenance=record["provenance"],
        training=record.get("training", {}),
        conversion={
            "openvino": engine_version(),
            "torch": torch.__version__,
            "largest_logit_difference": parity.largest_difference,
            "checkpoint_rounding": parity.largest_rounding,
            "equal_argmax": parity.equal_argmax,
            "patches": parity.num_patches,
        },
    )
    (output / MANIFEST_NAME).write_text(manifest.to_json(), encoding="utf-8")
    return manifest
