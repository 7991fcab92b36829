"""Worst case against clean accuracy as an inline SVG: matplotlib draws it, the page's style sheet colours it."""

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .formatting import percent
from .overall import Overall
from .rows import Row
from .statistics import Estimate
from .table import label

SVG = "http://www.w3.org/2000/svg"
LINK = "{http://www.w3.org/1999/xlink}href"
# Drawn in these, then handed over to the style sheet, so that dark pages and print can differ.
INK, SOFT, LINE, FILL = "#010101", "#020202", "#030303", "#040404"
VARIABLES = {INK: "var(--ink)", SOFT: "var(--soft)", LINE: "var(--line)", FILL: "var(--fill)"}
LABELLED = 16  # more names than that run together
LIMITS = (0.04, 0.08, 0.2, 0.4, 0.6, 0.8, 1.0)


@dataclass(frozen=True)
class Point:
    """One disc: a name, two accuracies, and passes a prediction."""

    name: str
    clean: Estimate
    worst: Estimate
    passes: float


def charted(found: Sequence[Row | Overall]) -> list[Point]:
    """What a chart shows of rows, or of lines of the leaderboard: those that rank, best first."""
    return [
        Point(label(one.first if isinstance(one, Overall) else one), one.clean, worst, one.passes)
        for one in found
        if one.state == "valid" and one.clean
        for worst in [one.worst if isinstance(one, Overall) else one.worst and one.worst.accuracy]
        if worst
    ]


def chart(found: Sequence[Row | Overall], name: str, subject: str) -> Markup | None:
    """Draws what ranks of one table; None for fewer than two.

    Args:
        name: prefix of every id in the drawing, unique in its page.
        subject: table in words, for the title that screen readers speak.
    """
    points = charted(found)
    if len(points) < 2:
        return None
    said = "; ".join(
        f"{one.name}: clean {percent(one.clean.value)}, worst case {percent(one.worst.value)}, "
        f"{one.passes:.3g} encoder passes"
        for one in points
    )
    return drawn(lambda: _draw(points), name, f"Worst case against clean accuracy in per cent, {subject}", said)


def _draw(points: Sequence[Point]) -> Figure:
    named = points[:LABELLED]
    figure = Figure(figsize=(6.4, max(3.4, 0.2 * len(named) + 1.0)), layout=None)
    axes = figure.add_axes((0.12, 0.19, 0.51, 0.78))
    worst = [one.worst for one in points]
    clean = [100 * one.clean.value for one in points]
    heights = [100 * estimate.value for estimate in worst]
    top = 100 * next(limit for limit in LIMITS if max(e.high for e in worst) <= limit)
    axes.set(xlim=(0, 100), ylim=(0, top))
    axes.set_xticks(range(0, 101, 25))
    axes.set_yticks([top * quarter / 4 for quarter in range(5)])
    lows, highs = [100 * e.low for e in worst], [100 * e.high for e in worst]
    axes.vlines(clean, lows, highs, colors=FILL, alpha=0.4, linewidth=1.5)
    sizes = [min(20 + 8 * one.passes, 320) for one in points]
    axes.scatter(clean, heights, s=sizes, c=FILL, alpha=0.85, linewidths=0, clip_on=False, zorder=3)
    # Labels stand in one column in the order of the discs, as near to them as keeps them apart.
    gap, height = 0.2 / (0.78 * figure.get_figheight()), 1.0
    for left, (one, x, y) in zip(reversed(range(len(named))), zip(named, clean, heights, strict=False), strict=True):
        height = max(gap * left, min(height, y / top))
        text = f"{shorten(one.name)} ({one.passes:.3g})"
        axes.annotate(
            text, (x, y), xytext=(1.06, height), textcoords="axes fraction", color=INK, va="center",
            arrowprops={"arrowstyle": "-", "color": SOFT, "alpha": 0.35, "linewidth": 0.6, "relpos": (0, 0.5),
                        "patchA": None, "shrinkA": 3, "shrinkB": 0},
        )  # fmt: skip
        height -= gap
    plain_axes(axes, "clean accuracy, %", "worst case, %")
    return figure


def drawn(draw: Callable[[], Figure], name: str, title: str, said: str) -> Markup:
    """What `draw` draws as an inline SVG, in the one style of all charts; title and words are for screen readers."""
    with matplotlib.rc_context(
        {"svg.hashsalt": "vlm-gauntlet", "svg.fonttype": "none", "font.size": 10, "text.parse_math": False}
    ):
        file = io.BytesIO()
        draw().savefig(file, format="svg", transparent=True, metadata={"Date": None})
    return embeddable(file.getvalue(), name, title, said)


def plain_axes(axes: Axes, x: str, y: str) -> None:
    """The frame of all charts: a grid behind, no spines, soft labels."""
    axes.grid(color=LINE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=SOFT, length=0, pad=7)
    axes.set_xlabel(x, color=SOFT, labelpad=7)
    axes.set_ylabel(y, color=SOFT, labelpad=7)
    axes.spines[:].set_visible(False)


def shorten(text: str) -> str:
    """At most 20 characters; the whole name is in the description and in the table."""
    return text if len(text) <= 20 else f"{text[:19]}…"


def embeddable(drawn: bytes, name: str, title: str, said: str) -> Markup:
    """Matplotlib's file as an element of a page: no style attribute (the page forbids them), ids that cannot clash."""
    for namespace, prefix in ((SVG, ""), (LINK[1:].partition("}")[0], "xlink")):
        ElementTree.register_namespace(prefix, namespace)
    root = ElementTree.fromstring(drawn)
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{{{SVG}}}metadata", f"{{{SVG}}}style"):
                parent.remove(child)
    used = {part.get(LINK, "").removeprefix("#") for part in root.iter()}
    used |= set(re.findall(r"url\(#([^)]+)\)", drawn.decode()))
    for part in root.iter():
        for declaration in filter(None, part.attrib.pop("style", "").split(";")):
            key, _, value = declaration.partition(":")
            _set_style(part, key.strip(), value.strip())
        for key, value in list(part.attrib.items()):
            if key == "id" and value not in used:
                part.attrib.pop(key)
            elif key == "id":
                part.set(key, f"{name}-{value}")
            elif key == LINK:
                part.set(key, f"#{name}-{value.removeprefix('#')}")
            else:
                part.set(key, VARIABLES.get(value, value).replace("url(#", f"url(#{name}-"))
    for key in ("width", "height", "version"):
        root.attrib.pop(key, None)
    for tag, text in (("desc", said), ("title", title)):
        element = ElementTree.Element(f"{{{SVG}}}{tag}", {"id": f"{name}-{tag}"})
        element.text = text
        root.insert(0, element)
    root.attrib |= {"class": "chart", "role": "img", "aria-labelledby": f"{name}-title {name}-desc"}
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _set_style(part: ElementTree.Element, key: str, value: str) -> None:
    if key == "font":  # "10px 'DejaVu Sans', ...": the family is the page's own
        part.set("font-size", value.split()[0])
    else:
        part.set(key, value)
