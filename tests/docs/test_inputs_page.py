"""Every row of the table of inputs has a test that exists."""

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
OF_SECTION = {
    "Files": TESTS / "imaging" / "test_nifti_inputs.py",
    "DICOM": TESTS / "imaging" / "test_dicom.py",
}
PAGE = TESTS.parent / "docs" / "INPUTS.md"


def rows():
    """Give the section, the first and the last cell of each row that should name a test."""
    section, has_tests = "", False
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            section = line[3:]
        if not line.startswith("| "):
            continue
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if line.startswith(("| input |", "| what is tried |", "| scan |")):
            has_tests = cells[-1].startswith("test")
        elif has_tests:
            yield section, cells[0], cells[-1].strip("| ")


def file_of(name):
    """Find a file of tests: `T` is the folder that most rows are tested in."""
    name = name.removeprefix("T ")
    return TESTS / name if "/" in name else TESTS / "imaging" / name


def named_tests():
    """Give each row with what it names: a file, and where that is told, how the test's name begins.

    A name without a file is of its section's, else of the file named before it.
    """
    path = None
    for section, row, cell in rows():
        path = OF_SECTION.get(section, path)
        named = []
        for told in re.findall(r"`([^`]+)`", cell):
            name, _, test = told.partition("::")
            of_this = file_of(name) if name else path
            path = path if section in OF_SECTION else of_this
            named.append((of_this, test.rstrip("…")))
        yield row, cell, named


def names_in(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]


@pytest.mark.parametrize(("row", "cell", "named"), list(named_tests()))
def test_row_names_tests_that_there_are(row, cell, named):
    assert named or cell.startswith(("see above", "none:")), row
    for path, begin in named:
        assert path.is_file(), (row, path)
        found = [name for name in names_in(path) if name.startswith(begin or "test_")]
        assert found, (row, path.name, begin)
