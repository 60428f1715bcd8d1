"""The reference against this system: two programs that share networks and nothing else."""

from pathlib import Path

import pytest

from app.benchmark.cases import Scan
from app.benchmark.compare import compare
from app.benchmark.systems import local_installation, reference, weights_differ
from app.cli.main import main
from app.errors import WeightsError

pytest.importorskip("torch")

from app.benchmark.reference import open_phase  # noqa: E402  needs torch

WEIGHTS = Path(__file__).parents[2] / "weights"


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    """Give both systems' label maps of a phantom that lies in no usual order."""
    folder = tmp_path_factory.mktemp("reference")
    scan_path, truth = folder / "scans" / "tiny_0000.nii.gz", folder / "tiny.nii.gz"
    scan_path.parent.mkdir()
    code = main(
        ["synthesize", "--size", "96x76x44", "--spacing", "3.2x3.4x4.1", "--orientation", "SRA",
         "--seed", "3", "--output", str(scan_path), "--labels", str(truth)]
    )  # fmt: skip
    assert code == 0
    scan = Scan(
        name="tiny", folder=scan_path.parent, truth=truth, shape=(76, 96, 44),
        spacing_mm=(3.4, 3.2, 4.1), sha256="",
    )  # fmt: skip
    return compare(
        scan,
        local_installation(memory="8GiB", weights=WEIGHTS),
        reference(weights=WEIGHTS),
        repeat=1,
        scratch=folder,
    )


def test_both_end_well_and_tell_the_same_steps(result):
    assert [run.exit_code for run in (*result.ours.measurements, *result.theirs.measurements)] == [
        0,
        0,
    ]
    both = {"import", "compile", "read", "locate", "segment", "restore", "write", "other"}
    assert set(result.theirs.steps_s) == both
    assert set(result.ours.steps_s) == both | {"check"}


def test_this_system_compiles_beside_other_steps_and_the_reference_does_not(result):
    assert result.ours.measurements[0].compiles_beside
    assert not result.theirs.measurements[0].compiles_beside


def test_both_run_networks_of_the_same_checkpoints():
    ours = local_installation(memory="8GiB", weights=WEIGHTS).checkpoints()
    assert set(ours) == {"locate", "segment"}
    assert weights_differ(ours, reference(weights=WEIGHTS).checkpoints(), "ours") == ""


def test_both_find_the_same_organs_in_the_same_places(result):
    # A mirrored or exchanged axis leaves nothing of the kidneys and little of liver and spleen.
    for organ in ("liver", "spleen", "right_kidney", "left_kidney"):
        assert result.between[organ] > 0.75, organ
        assert result.their_truth[organ] > 0.6, organ


def test_a_checkpoint_that_is_cut_short_is_named(tmp_path):
    folder = tmp_path / "locate"
    folder.mkdir()
    for name, size in (("manifest.json", None), ("checkpoint.safetensors", 50)):
        (folder / name).write_bytes((WEIGHTS / "locate" / name).read_bytes()[:size])

    with pytest.raises(WeightsError, match="locate: no checkpoint of this network"):
        open_phase(folder)


def test_a_folder_without_a_scan_is_wrong_use(tmp_path):
    assert reference(weights=WEIGHTS).run(tmp_path, tmp_path).exit_code == 2
