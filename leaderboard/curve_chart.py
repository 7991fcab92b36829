"""Robustness curves of one row as an inline SVG, by the same hand as the other charts."""

import io
from collections.abc import Sequence

import matplotlib
from markupsafe import Markup
from matplotlib.figure import Figure

from .chart import FILL, INK, LINE, SOFT, embeddable, shorten
from .formatting import percent
from .robustness_curve import RobustnessCurve, best_curve


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
    with matplotlib.rc_context(
        {"svg.hashsalt": "vlm-gauntlet", "svg.fonttype": "none", "font.size": 10, "text.parse_math": False}
    ):
        figure = _draw(known, best)
        drawn = io.BytesIO()
        figure.savefig(drawn, format="svg", transparent=True, metadata={"Date": None})
    told = ", ".join(f"{percent(a)} at {eps}" for eps, a in zip(best.grid, best.accuracy, strict=True))
    return embeddable(drawn.getvalue(), name, f"Robust accuracy in per cent against eps, {subject}", f"All: {told}")


def _draw(known: Sequence[RobustnessCurve], best: RobustnessCurve) -> Figure:
    figure = Figure(figsize=(6.4, 3.4), layout=None)
    axes = figure.add_axes((0.12, 0.19, 0.51, 0.78))
    radii = [255 * float(eps) for eps in best.grid]
    for curve in known:
        heights = [100 * value for value in curve.accuracy]
        axes.step(radii, heights, where="post", color=SOFT, alpha=0.5, linewidth=0.8)
    axes.step(radii, [100 * value for value in best.accuracy], where="post", color=FILL, linewidth=2, zorder=3)
    axes.set(xlim=(0, radii[-1]), ylim=(0, 100))
    strongest = min(known, key=lambda curve: (curve.area, curve.attacker))
    axes.text(1.06, 0.95, "all attackers", transform=axes.transAxes, color=INK, va="top", weight="bold")
    axes.text(1.06, 0.85, f"best: {shorten(strongest.attacker)}", transform=axes.transAxes, color=INK, va="top")
    axes.grid(color=LINE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=SOFT, length=0, pad=7)
    axes.set_xlabel("ε, 1/255", color=SOFT, labelpad=7)
    axes.set_ylabel("robust accuracy, %", color=SOFT, labelpad=7)
    axes.spines[:].set_visible(False)
    return figure
