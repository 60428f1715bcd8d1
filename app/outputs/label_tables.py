"""Files that tell other tools what the values of a label map mean, once per folder."""

import json
from pathlib import Path
from typing import Any

from app.errors import InputError
from app.imaging.io import atomic_path
from app.labels import CLASS_NAMES, ORGANS
from app.terminology import TERMS

LABELS_NAME = "labels.json"
COLORS_NAME = "labels.ctbl"

_COLORS_HEAD = f"# Color table file {COLORS_NAME}"


def write_label_tables(folder: Path) -> list[Path]:
    """Write ``labels.json`` and the color table of 3D Slicer, unless they are there already.

    Parameters
    ----------
    folder : Path
        Where the label maps are.

    Returns
    -------
    list of Path
        The files.

    Raises
    ------
    InputError
        As :func:`check_label_tables`.
    OutputError
        If they cannot be written.
    """
    check_label_tables(folder)
    texts = {folder / LABELS_NAME: labels_json(), folder / COLORS_NAME: color_table()}
    for path, text in texts.items():
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        with atomic_path(path) as partial:
            partial.write_text(text, encoding="utf-8")
    return list(texts)


def check_label_tables(folder: Path) -> None:
    """Refuse a folder where other files have these names; those of an older version are ours.

    Raises
    ------
    InputError
        If there is such a file, or one that cannot be read.
    """
    for name, is_ours in ((LABELS_NAME, _names_labels), (COLORS_NAME, _names_colors)):
        path = folder / name
        try:
            if path.exists() and not is_ours(path.read_text(encoding="utf-8")):
                raise InputError(f"{path}: not written here; move the file away and run again")
        except (OSError, ValueError) as error:
            raise InputError(
                f"{path}: cannot be read ({error}); move the file away and run again"
            ) from error


def _names_labels(text: str) -> bool:
    """Tell our table from others with ``labels``, such as the ``dataset.json`` of nnU-Net."""
    record: Any = json.loads(text)
    if not isinstance(record, dict) or record.keys() != {"labels", "organs"}:
        return False
    organs = record["organs"]
    return isinstance(organs, list) and all(
        isinstance(organ, dict) and "snomed_ct" in organ for organ in organs
    )


def _names_colors(text: str) -> bool:
    return text.startswith(_COLORS_HEAD + "\n")


def labels_json() -> str:
    """Give names, colors and SNOMED CT codes by value as JSON.

    ``labels`` is the name-to-value table of an nnU-Net ``dataset.json``.
    """
    organs = [
        {
            "value": organ.value,
            "name": organ.name,
            "label": TERMS[organ.value].label,
            "color_rgb": organ.color,
            "snomed_ct": [code._asdict() for code in TERMS[organ.value].codes],
        }
        for organ in ORGANS
    ]
    labels = {name: value for value, name in enumerate(CLASS_NAMES)}
    record = {"labels": labels, "organs": organs}
    return json.dumps(record, indent=2) + "\n"


def color_table() -> str:
    """Give names and colors by value as a color table of 3D Slicer: value, name, RGBA."""
    lines = [_COLORS_HEAD, f"# {len(CLASS_NAMES)} values"]
    lines += ["0 background 0 0 0 0"]
    lines += [
        f"{organ.value} {organ.name} {' '.join(str(part) for part in organ.color)} 255"
        for organ in ORGANS
    ]
    return "\n".join(lines) + "\n"
