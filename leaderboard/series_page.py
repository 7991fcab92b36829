"""The page of numbers that move: one drawing and one table a series, and the points as files."""

from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment
from markupsafe import Markup
from matplotlib.figure import Figure

from .chart import FILL, INK, SOFT, drawn, plain_axes
from .exports import as_csv, as_json
from .formatting import percent
from .series import LEAST, STEPS, Series

DRAWINGS = 24  # each takes tens of milliseconds; what is not drawn stands in its table all the same


def write_series_page(pages: Environment, shared: dict[str, object], found: Sequence[Series], out: Path) -> None:
    """Writes `series.html`, `.csv` and `.json` into a site.

    Args:
        pages, shared: environment, and what every page knows.
        found: sorted; may be empty.
        out: the site's folder.
    """
    drawings = {one.anchor: _chart(one, f"series-{place}") for place, one in enumerate(found[:DRAWINGS], 1)}
    text = pages.get_template("series.html.j2").render(
        **shared, root="", series=found, drawings=drawings, least=LEAST, steps=STEPS
    )
    lines = [line for one in found for line in _records(one)]
    for kind, content in {"html": text, "csv": as_csv(lines), "json": as_json(lines)}.items():
        (out / f"series.{kind}").write_text(content, encoding="utf-8")


def _records(one: Series) -> list[dict[str, object]]:
    return [
        {
            "knob": one.knob, "value": str(point.value), "method": one.method, "backbone": one.backbone,
            "dataset": one.dataset, "attack": one.attack, "seed": one.seed, "n": point.clean.n,
            "clean": point.clean.value, "robust": point.robust.value, "robust_low": point.robust.low,
            "robust_high": point.robust.high, "outcome": point.outcome,
        }
        for point in one.points
    ]  # fmt: skip


def _chart(one: Series, name: str) -> Markup:
    said = ", ".join(f"{percent(p.robust.value)} at {p.value}" for p in one.points)
    return drawn(lambda: _draw(one), name, f"Accuracy in per cent against {one.knob}, {one.subject}", said)


def _draw(one: Series) -> Figure:
    figure = Figure(figsize=(6.4, 3.0), layout=None)
    axes = figure.add_axes((0.12, 0.21, 0.62, 0.75))
    values = [float(point.value) for point in one.points]
    spread = one.knob == STEPS and values[0] > 0 and values[-1] / values[0] > LEAST**2
    if spread:
        axes.set_xscale("log")
        axes.set_xticks(values, [f"{value:g}" for value in values])
        axes.minorticks_off()
    robust = [100 * point.robust.value for point in one.points]
    low, high = ([100 * getattr(p.robust, side) for p in one.points] for side in ("low", "high"))
    axes.vlines(values, low, high, colors=FILL, alpha=0.4, linewidth=1.5)
    clean = [100 * point.clean.value for point in one.points]
    axes.plot(values, robust, color=FILL, linewidth=2, marker="o", markersize=4)
    axes.plot(values, clean, color=SOFT, linewidth=1, marker="o", markersize=3)
    axes.set_ylim(0, 100)
    heights = {"clean": clean[-1], "attacked": robust[-1]}
    if abs(heights["clean"] - heights["attacked"]) < 8:
        heights["clean"] = heights["attacked"] + 8 * (1 if robust[-1] < 90 else -1)
    for word, height in heights.items():
        axes.text(1.03, height / 100, word, transform=axes.transAxes, color=INK, va="center")
    plain_axes(axes, one.knob, "accuracy, %")
    return figure
