"""Robustness curves of one row as an inline SVG, by the same hand as the other charts."""

from collections.abc import Sequence

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .chart import FILL, INK, SOFT, drawn, plain_axes, shorten
from .formatting import percent
from .robustness_curve import ALL, RobustnessCurve, best_curve

LABELS = 10  # attackers named in a drawing, the best; all stand in the table below it
GAP = 0.08  # between two names, of the height


def curve_chart(known: Sequence[RobustnessCurve], name: str, subject: str) -> Markup | None:
    """Draws what stands against the radius, each attacker thin and all together thick; None for less than three radii.

    Args:
        known: curves of one row.
        name: prefix of every id in the drawing, unique in its page.
        subject: row in words, for the title that screen readers speak.
    """
    if not known or len(known[0].grid) < 3:
        return None
    best = best_curve(known)
    told = ", ".join(f"{percent(a)} at {eps}" for eps, a in zip(best.grid, best.accuracy, strict=True))
    title = f"Robust accuracy in per cent against eps, {subject}"
    return drawn(lambda: _draw(known, best), name, title, f"All: {told}")


def _draw(known: Sequence[RobustnessCurve], best: RobustnessCurve) -> Figure:
    figure = Figure(figsize=(6.4, 3.4), layout=None)
    axes = figure.add_axes((0.12, 0.19, 0.51, 0.78))
    radii = [255 * float(eps) for eps in best.grid]
    for curve in known:
        axes.step(radii, [100 * v for v in curve.accuracy], where="post", color=SOFT, alpha=0.6, linewidth=0.9)
    axes.step(radii, [100 * value for value in best.accuracy], where="post", color=FILL, linewidth=2, zorder=3)
    axes.set(xlim=(0, radii[-1]), ylim=(0, 100))
    _label(axes, [best, *sorted(known, key=lambda curve: (curve.area, curve.attacker))[:LABELS]])
    plain_axes(axes, "ε, 1/255", "robust accuracy, %")
    return figure


def _label(axes: Axes, named: Sequence[RobustnessCurve]) -> None:
    """Names in one column, in the order in which the curves come to the largest radius, each led to its last step."""
    ordered = sorted(named, key=lambda curve: (-curve.accuracy[-2], -curve.area, curve.attacker))
    height = 1.0
    for left, curve in zip(reversed(range(len(ordered))), ordered, strict=True):
        end = curve.accuracy[-2]
        height = max(GAP * left, min(height, end))
        axes.annotate(
            shorten(curve.attacker), (255 * float(curve.grid[-1]), 100 * end), xytext=(1.06, height),
            textcoords="axes fraction", color=INK, va="center", weight="bold" if curve.attacker == ALL else "normal",
            arrowprops={"arrowstyle": "-", "color": SOFT, "alpha": 0.35, "linewidth": 0.6, "relpos": (0, 0.5),
                        "patchA": None, "shrinkA": 3, "shrinkB": 0},
        )  # fmt: skip
        height -= GAP
