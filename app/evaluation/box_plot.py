"""Box plots as SVG, written by hand so that the report needs no plotting library."""

import math
from collections.abc import Sequence
from html import escape

import numpy as np

ROW_PIXELS = 26
LABEL_PIXELS = 150
PLOT_PIXELS = 360
AXIS_PIXELS = 30
RIGHT_PIXELS = 20
BOX_PIXELS = 14
WHISKER_REACH = 1.5
"""A whisker ends at the last value within this many box lengths of the box (Tukey)."""

TICKS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


def box_plot(title: str, rows: Sequence[tuple[str, str, Sequence[float]]]) -> str:
    """Draw one horizontal box for each row, on a scale from 0 to 1.

    Box: quartiles; line: median; whiskers: the last value within 1.5 box
    lengths; dots: values beyond, each with its value as a tooltip.

    Parameters
    ----------
    title : str
        Written above.
    rows : sequence of (name, color, values)
        Color is what CSS understands; NaN among the values is passed over.

    Returns
    -------
    str
        An ``<svg>`` element.
    """
    height = AXIS_PIXELS + ROW_PIXELS * len(rows) + AXIS_PIXELS
    width = LABEL_PIXELS + PLOT_PIXELS + RIGHT_PIXELS
    bottom = AXIS_PIXELS + ROW_PIXELS * len(rows)
    parts = [
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label="{escape(title)}">',
        f'<text x="{LABEL_PIXELS}" y="18" class="title">{escape(title)}</text>',
    ]
    for tick in TICKS:
        x = _x(tick)
        parts.append(
            f'<line x1="{x}" x2="{x}" y1="{AXIS_PIXELS}" y2="{bottom}" class="grid"/>'
            f'<text x="{x}" y="{bottom + 18}" class="tick">{tick:.1f}</text>'
        )
    for index, (name, color, values) in enumerate(rows):
        y = AXIS_PIXELS + ROW_PIXELS * index + ROW_PIXELS // 2
        parts.append(
            f'<text x="{LABEL_PIXELS - 10}" y="{y + 4}" class="name">{escape(name)}</text>'
        )
        parts.append(_box(y, color, sorted(v for v in values if not math.isnan(v))))
    return "\n".join([*parts, "</svg>"])


def _x(value: float) -> float:
    return round(LABEL_PIXELS + PLOT_PIXELS * value, 1)


def _box(y: int, color: str, values: list[float]) -> str:
    """Draw one box with its whiskers; nothing for no values."""
    if not values:
        return f'<text x="{LABEL_PIXELS + 4}" y="{y + 4}" class="none">not scored</text>'
    low, median, high = (float(quartile) for quartile in np.percentile(values, [25, 50, 75]))
    reach = WHISKER_REACH * (high - low)
    inside = [value for value in values if low - reach <= value <= high + reach]
    beyond = [value for value in values if not low - reach <= value <= high + reach]
    # A quartile between two values may have no value on its far side within reach.
    first, last = min(low, *inside), max(high, *inside)
    top, half = y - BOX_PIXELS // 2, BOX_PIXELS // 2
    dots = "".join(
        f'<circle cx="{_x(value)}" cy="{y}" r="2.5" class="beyond">'
        f"<title>{value:.3f}</title></circle>"
        for value in beyond
    )
    return (
        f'<line x1="{_x(first)}" x2="{_x(last)}" y1="{y}" y2="{y}" class="whisker"/>'
        f'<line x1="{_x(first)}" x2="{_x(first)}" y1="{y - half // 2}" y2="{y + half // 2}" '
        'class="whisker"/>'
        f'<line x1="{_x(last)}" x2="{_x(last)}" y1="{y - half // 2}" y2="{y + half // 2}" '
        'class="whisker"/>'
        f'<rect x="{_x(low)}" y="{top}" width="{max(_x(high) - _x(low), 1):.1f}" '
        f'height="{BOX_PIXELS}" fill="{color}" class="box"/>'
        f'<line x1="{_x(median)}" x2="{_x(median)}" y1="{top}" y2="{top + BOX_PIXELS}" '
        f'class="median"/>{dots}'
    )
