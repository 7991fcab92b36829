"""Geometry of the chart: worst case against clean accuracy, a disc for each method, its area the cost."""

from collections.abc import Sequence
from dataclasses import dataclass

from .rows import Row

LEFT, RIGHT, TOP, BOTTOM = 60.0, 420.0, 20.0, 300.0
LABELS, LINE = 452.0, 19.0


@dataclass(frozen=True)
class Point:
    """A disc with its whisker, and its label in the column on the right; all in pixels of the drawing."""

    row: Row
    x: float
    y: float
    low: float
    high: float
    radius: float
    label_x: float
    label_y: float


@dataclass(frozen=True)
class Chart:
    """Points and ticks (pixel, text) of both axes."""

    points: tuple[Point, ...]
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    height: float


def chart_of(rows: Sequence[Row]) -> Chart | None:
    """The chart of a block's valid rows; None for fewer than two. Quarters of the scale are round."""
    ranked = [(row, row.worst.accuracy) for row in rows if row.state == "valid" and row.worst]
    if len(ranked) < 2:
        return None
    need = max(worst.high for _, worst in ranked)
    top = next(limit for limit in (0.04, 0.08, 0.2, 0.4, 0.6, 0.8, 1.0) if need <= limit)

    def across(value: float) -> float:
        return LEFT + (RIGHT - LEFT) * value

    def up(value: float) -> float:
        return BOTTOM - (BOTTOM - TOP) * value / top

    points = []
    # Labels stand in one column, in the order of the discs, so that they can never cover one another.
    ordered = sorted(ranked, key=lambda pair: (-pair[1].value, -pair[0].clean.value))
    spare = max(TOP + 4, min(up(ordered[0][1].value), BOTTOM - LINE * (len(ordered) - 1)))
    for place, (row, worst) in enumerate(ordered):
        y = up(worst.value)
        label_y = max(spare, min(y, BOTTOM - LINE * (len(ordered) - 1 - place)))
        spare = label_y + LINE
        points.append(
            Point(row, across(row.clean.value), y, up(worst.low), up(worst.high),
                  min(3 + row.passes**0.5, 14), LABELS, label_y)
        )  # fmt: skip
    quarters = (0.0, 0.25, 0.5, 0.75, 1.0)
    return Chart(
        points=tuple(points),
        x_ticks=tuple((across(q), f"{100 * q:g}") for q in quarters),
        y_ticks=tuple((up(q * top), f"{100 * q * top:g}") for q in quarters),
        height=max(350.0, spare + 20),
    )
