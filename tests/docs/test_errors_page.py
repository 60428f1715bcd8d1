"""The guide has an entry for every error and warning, and none for what nobody says."""

import ast
import inspect
import re
from pathlib import Path

import pytest

from app import errors

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "site" / "errors.md").read_text(encoding="utf-8")
OURS = {name for name, _ in inspect.getmembers(errors, inspect.isclass)}
# Messages that are told by another: an error of a library, or a text that is found elsewhere.
PASSED_ON = {"{}: {}", "{}: {}: {}", "command {}: {}", ""}


def said_by(node):
    """Give the text of a string in the source; {} stands for what is filled in."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    if isinstance(node, ast.JoinedStr):
        return "".join(
            value.value if isinstance(value, ast.Constant) else "{}" for value in node.values
        )
    return ""


def parts_of_the_program():
    for path in sorted((ROOT / "app").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            yield path.relative_to(ROOT).as_posix(), node


def messages():
    """Give the message of every error of ours that is raised anywhere."""
    for path, node in parts_of_the_program():
        if not (isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)):
            continue
        if ast.unparse(node.exc.func) in OURS and node.exc.args:
            yield path, said_by(node.exc.args[0])


def phrases(section=""):
    """Give the phrases of the tables' first columns as patterns."""
    text = PAGE.partition("## Warnings")[2 if section == "warnings" else 0]
    cells = re.findall(r"^\| (.*?) \| .* \|$", text, re.MULTILINE)
    return [
        re.compile(".*".join(map(re.escape, phrase.split("…"))), re.DOTALL)
        for cell in cells
        for phrase in cell.split("; ")
        if not cell.endswith(" says")
    ]


def test_every_error_has_an_entry():
    known = phrases()
    without = [
        (path, message)
        for path, message in messages()
        if message not in PASSED_ON and not any(phrase.search(message) for phrase in known)
    ]
    assert without == []


@pytest.mark.parametrize("section", ["errors", "warnings"])
def test_every_entry_is_of_something_that_is_said(section):
    said = [said_by(node) for _, node in parts_of_the_program()]
    unsaid = [
        phrase.pattern
        for phrase in phrases(section)
        if not any(phrase.search(text) for text in said)
    ]
    assert unsaid == []


def test_every_kind_of_flag_has_an_entry():
    from app.cascade.plausibility import _LEADS

    known = phrases("warnings")
    assert [lead for lead in _LEADS.values() if not any(one.search(lead) for one in known)] == []
