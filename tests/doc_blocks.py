"""The commands that README and docs show, taken out of the pages."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    [
        ROOT / "README.md",
        ROOT / "weights" / "MODEL_CARD.md",
        *(ROOT / "docs").glob("*.md"),
        *(ROOT / "docs" / "site").glob("*.md"),
    ]
)

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")


def blocks_of(page):
    """Give the kind and the text of each fenced block of a page."""
    return _FENCE.findall(page.read_text(encoding="utf-8"))


def blocks(kind):
    """Give the blocks of a kind on all pages, by a name that tells where each stands."""
    return {
        f"{page.stem}-{index}": text.strip()
        for page in PAGES
        for index, (_, text) in enumerate(block for block in blocks_of(page) if block[0] == kind)
    }


def inline_code():
    """Give all that stands in backquotes within a line, by page."""
    return [
        (page.stem, code)
        for page in PAGES
        for code in _INLINE.findall(_FENCE.sub("", page.read_text(encoding="utf-8")))
    ]


def lines_of(commands):
    """Give a block's commands one by one, whole, without remarks and blank lines."""
    joined = commands.replace("\\\n", " ")
    lines = (re.sub(r"(^|\s)#.*", "", line).strip() for line in joined.splitlines())
    return [line for line in lines if line]
