import json

import pytest

from app.errors import InputError
from app.labels import CLASS_NAMES, ORGANS
from app.outputs.label_tables import write_label_tables


def test_labels_json_names_every_value_as_nnunet_does(tmp_path):
    write_label_tables(tmp_path)
    found = json.loads((tmp_path / "labels.json").read_text())
    assert found["labels"] == {name: value for value, name in enumerate(CLASS_NAMES)}
    kidney = found["organs"][12]
    assert (kidney["value"], kidney["name"], kidney["label"]) == (13, "left_kidney", "Left kidney")
    assert [code["value"] for code in kidney["snomed_ct"]] == ["64033007", "7771000"]
    assert kidney["color_rgb"] == list(ORGANS[12].color)


def test_color_table_has_a_line_of_value_name_and_rgba_for_every_value(tmp_path):
    write_label_tables(tmp_path)
    lines = (tmp_path / "labels.ctbl").read_text().splitlines()
    assert lines[0].startswith("# Color table file")
    entries = [line.split(" ") for line in lines if not line.startswith("#")]
    assert [entry[:2] for entry in entries] == [
        [str(value), name] for value, name in enumerate(CLASS_NAMES)
    ]
    assert entries[0][2:] == ["0", "0", "0", "0"]
    assert [tuple(int(part) for part in entry[2:5]) for entry in entries[1:]] == [
        organ.color for organ in ORGANS
    ]
    assert {entry[5] for entry in entries[1:]} == {"255"}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("labels.json", b'{"labels": {"background": 0, "tumor": 1}}'),
        ("labels.json", b'{"labels": {}, "organs": [1]}'),
        ("labels.json", b"[]"),
        ("labels.json", b"my notes"),
        ("labels.json", b"\xff"),
        ("labels.ctbl", b"# Color table file /home/me/labels.ctbl\n0 nothing 0 0 0 0\n"),
    ],
)
def test_another_file_of_that_name_is_never_overwritten(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=f"{name}.*move the file away"):
        write_label_tables(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {name: content}


def test_tables_of_an_older_version_are_replaced(tmp_path):
    write_label_tables(tmp_path)
    before = {path.name: path.read_text() for path in tmp_path.iterdir()}
    older = before["labels.json"].replace("Liver", "The liver")
    (tmp_path / "labels.json").write_text(older)
    (tmp_path / "labels.ctbl").write_text(before["labels.ctbl"].replace(" 255", " 127"))
    write_label_tables(tmp_path)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == before
