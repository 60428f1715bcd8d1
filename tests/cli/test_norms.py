import json
from math import log

import numpy as np
import pytest
from crude_anatomy import ellipsoid, write_map

from app.cli.main import main
from app.labels import ORGANS

SHAPE, STEP_MM = (60, 70, 80), 3.0
NAMES = [organ.name for organ in ORGANS]


def body(tall):
    """Give 13 ellipsoids on a lattice, as tall as asked for and 5 by 4 voxels wide."""
    labels = np.zeros(SHAPE, np.uint8)
    for number, organ in enumerate(ORGANS):
        center = (15 + 30 * (number % 2), 12 + 15 * (number // 2 % 4), 14 + 50 * (number // 8))
        labels[ellipsoid(SHAPE, center, (tall, 5, 4))] = organ.value
    return labels


def test_norms_tell_proportions_where_organs_are_whole(tmp_path, capsys):
    for number, tall in enumerate((6, 8, 10, 12, 14)):
        labels = body(tall)
        if tall == 6:
            labels = labels[12:]  # cuts every other organ, and makes its height untrue
        write_map(tmp_path / f"{number}.nii.gz", labels, spacing=STEP_MM)
    written = tmp_path / "norms.json"
    assert main(["norms", "--anatomies", str(tmp_path), "--output", str(written)]) == 0
    assert "5 people measured" in capsys.readouterr().out
    norms = json.loads(written.read_text())["organs"]
    assert list(norms) == NAMES
    for number, name in enumerate(NAMES):
        # Standard deviations of an ellipsoid: its radii divided by the square root of 5.
        rank = [8, 10, 12, 14] if number % 2 == 0 else [6, 8, 10, 12, 14]
        middle = np.median([log(tall) for tall in rank])
        width = 0.4 * log(5 * 4) / 2 - 0.6 * log(STEP_MM / 5**0.5)
        assert norms[name]["height"] == pytest.approx(middle - width, abs=0.03)
        spread = 1.4826 * np.median([abs(log(tall) - middle) for tall in rank])
        assert norms[name]["height_spread"] == pytest.approx(spread, abs=0.03)


@pytest.mark.parametrize("value", [14, 257])
def test_values_of_no_organ_are_refused_by_the_file(tmp_path, capsys, value):
    labels = body(8).astype(np.uint16)
    labels[0, 0, :3] = value
    write_map(tmp_path / "odd.nii.gz", labels, spacing=STEP_MM)
    assert main(["norms", "--anatomies", str(tmp_path), "--output", str(tmp_path / "n.json")]) == 2
    assert "odd.nii.gz: " in capsys.readouterr().err
    assert not (tmp_path / "n.json").exists()


@pytest.mark.parametrize("missing", ["absent", "small", "cut"])
def test_an_organ_that_is_whole_in_nobody_is_named(tmp_path, capsys, missing):
    labels = body(8)
    if missing == "cut":
        labels = labels[:, :, 14:]  # through the middle of the first eight
    else:
        labels[labels == 13] = 0
    if missing == "small":
        labels[0, 0, :18] = 13  # 0.49 ml
    write_map(tmp_path / "X.nii.gz", labels, spacing=STEP_MM)
    assert main(["norms", "--anatomies", str(tmp_path), "--output", str(tmp_path / "n.json")]) == 2
    told = ", ".join(NAMES[:8]) if missing == "cut" else "left_kidney"
    assert f"--anatomies: {told} of at least 0.5 ml" in capsys.readouterr().err
    assert not (tmp_path / "n.json").exists()


def test_what_a_mac_leaves_beside_label_maps_is_passed_over(tmp_path, capsys):
    write_map(tmp_path / "X.nii.gz", body(8), spacing=STEP_MM)
    (tmp_path / "._X.nii.gz").write_bytes(b"Mac OS X")
    assert main(["norms", "--anatomies", str(tmp_path), "--output", str(tmp_path / "n.json")]) == 0
    assert "1 people measured" in capsys.readouterr().out


def test_norms_that_cannot_be_written_are_told(tmp_path, capsys):
    write_map(tmp_path / "X.nii.gz", body(8), spacing=STEP_MM)
    written = tmp_path / "nowhere" / "n.json"
    assert main(["norms", "--anatomies", str(tmp_path), "--output", str(written)]) == 2
    assert f"{written}: cannot be written" in capsys.readouterr().err
