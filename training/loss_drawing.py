"""A loss curve as an SVG file beside its CSV: the sum and each term against the step, phases side by side."""

import csv
import io
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

POINTS = 400  # of a line: a longer curve is drawn as means of equal stretches


def drawn_losses(path: Path) -> bytes:
    """The SVG of a `<name>.loss.csv` (see `curve.LossCurve`); steps count through all phases.

    Args:
        path: of the CSV; a term that a phase lacks has no line there.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with path.open(newline="") as file:
        lines = list(csv.DictReader(file))
    terms = [name for name in (lines[0] if lines else {}) if name not in ("phase", "step", "rate")]
    with matplotlib.rc_context({"svg.hashsalt": "vlm-gauntlet", "svg.fonttype": "none", "text.parse_math": False}):
        figure = Figure(figsize=(6.4, 3.4), layout="constrained")
        axes = figure.add_subplot()
        for term in terms if len(terms) > 2 else ["loss"]:  # one term alone is the loss
            steps = [i for i, line in enumerate(lines) if line[term]]
            values = [float(lines[i][term]) for i in steps]
            axes.plot(_thinned(steps), _thinned(values), label=term, linewidth=1.6 if term == "loss" else 1.0)
        for i, (before, line) in enumerate(pairwise(lines), 1):
            if before["phase"] != line["phase"]:
                axes.axvline(i, color="0.6", linewidth=0.8, linestyle=":")
        axes.set(xlabel="step", ylabel="loss", title=path.name.removesuffix(".loss.csv"))
        axes.legend(frameon=False)
        out = io.BytesIO()
        figure.savefig(out, format="svg", metadata={"Date": None})
    return out.getvalue()


def _thinned(values: Sequence[float]) -> list[float]:
    """At most POINTS means of neighbours."""
    stretch = -(-len(values) // POINTS) or 1
    parts = (values[i : i + stretch] for i in range(0, len(values), stretch))
    return [sum(part) / len(part) for part in parts]
