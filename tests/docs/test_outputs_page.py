import re
from pathlib import Path

from app.outputs.organ_table import COLUMNS
from app.terminology import TERMS

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "site" / "outputs.md").read_text()


def test_the_pages_codes_are_those_that_are_written():
    rows = re.findall(
        r"^\| (\d+) \| ([\w ]+) \| (\d+) \| (?:(\w+), (\d+) )?\|$", PAGE, re.MULTILINE
    )
    found = {
        int(value): tuple(text for text in (organ, code, side, side_code) if text)
        for value, organ, code, side, side_code in rows
    }
    assert found == {
        value: tuple(text for code in term.codes for text in (code.meaning, code.value))
        for value, term in TERMS.items()
    }


def test_the_page_explains_every_column_of_the_table():
    assert [name for name in COLUMNS if f"`{name}`" not in PAGE] == []
