from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


def kinds_shown(cell):
    return [kind for output in cell.get("outputs", []) for kind in output.get("data", {})]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs_from_top_to_bottom_and_finds_organs(path):
    book = nbformat.read(path, as_version=4)
    client = NotebookClient(book, resources={"metadata": {"path": str(ROOT)}}, timeout=600)
    client.execute()
    told = "".join(
        output.get("text", "") for cell in book.cells for output in cell.get("outputs", [])
    )
    assert "liver" in told
    assert "spacing_mm: an array needs its voxel spacing" in told
    shown = [kind for cell in book.cells for kind in kinds_shown(cell)]
    assert "image/png" in shown


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_kept_without_outputs(path):
    for cell in nbformat.read(path, as_version=4).cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
