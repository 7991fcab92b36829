"""Tables of papers as printed, ours beside each cell; and the page of all claims against all outcomes."""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path

from jinja2 import Environment
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vlm_gauntlet.fixtures.sources import sources
from vlm_gauntlet.methods.claims import Claim, claims

from .chart import FILL, SOFT, drawn, plain_axes
from .missing import lacking
from .verdicts import WORDS, Verdict

DOTS = 400  # of a drawing; the tables have all


@dataclass(frozen=True)
class Printed:
    """One table of a source.

    Args:
        columns: as printed, in the order in which claims name them.
        rows: name of the row, its method, and its claim in each column, None where none is kept here.
    """

    source: str
    table: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, str, tuple[Claim | None, ...]], ...]


@cache
def paths() -> dict[tuple[str, str], str]:
    """(source, table) -> place of its page under the site: safe, lower case, distinct."""
    found: dict[tuple[str, str], str] = {}
    for claim in claims():
        key = (claim.source, claim.table)
        if key not in found:
            path = f"papers/{_slug(claim.source)}/{_slug(claim.table)}.html"
            if path in found.values():
                path = path.replace(".html", f"-{sha256(repr(key).encode()).hexdigest()[:8]}.html")
            found[key] = path
    return found


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60] or "table"


def printed(found: Sequence[Claim]) -> list[Printed]:
    """Claims as the tables that they stand in."""
    tables: dict[tuple[str, str], list[Claim]] = defaultdict(list)
    for claim in found:
        tables[claim.source, claim.table].append(claim)
    made = []
    for (source, table), theirs in tables.items():
        columns = tuple(dict.fromkeys(claim.column for claim in theirs))
        lines: dict[tuple[str, str], dict[str, Claim]] = defaultdict(dict)
        for claim in theirs:
            lines[claim.row, claim.method][claim.column] = claim
        rows = tuple((row, method, tuple(map(held.get, columns))) for (row, method), held in lines.items())
        made.append(Printed(source, table, columns, rows))
    return made


def write_paper_pages(
    pages: Environment, shared: Mapping[str, object], judged: Mapping[str, Verdict], out: Path
) -> None:
    """Writes `papers/<source>/<table>.html` and `reproduction.html` into a site; `judged` has every claim."""
    template = pages.get_template("paper.html.j2")
    tables = printed(claims())
    by_source: dict[str, list[Printed]] = defaultdict(list)
    for one in tables:
        by_source[one.source].append(one)
    for one in tables:
        path = out / paths()[one.source, one.table]
        path.parent.mkdir(parents=True, exist_ok=True)
        held = [claim for _, _, cells in one.rows for claim in cells if claim]
        text = template.render(
            **shared, root="../../", printed=one, source=sources()[one.source], judged=judged, held=held,
            siblings=by_source[one.source], words=_counts(held, judged), lacking=lacking(judged[c.id] for c in held),
        )  # fmt: skip
        path.write_text(text, encoding="utf-8")
    tested = [c for c in claims() if judged[c.id].comparison]
    text = pages.get_template("reproduction.html.j2").render(
        **shared, root="", total=len(judged), words=_counts(claims(), judged), tested=tested, judged=judged,
        by_source=[
            (sources()[name], theirs, dict(_counts([c for c in claims() if c.source == name], judged)))
            for name, theirs in sorted(by_source.items())
        ],
        lacking=lacking(judged.values()), drawing=scatter(tested, judged), all_words=WORDS,
    )  # fmt: skip
    (out / "reproduction.html").write_text(text, encoding="utf-8")


def _counts(found: Sequence[Claim], judged: Mapping[str, Verdict]) -> list[tuple[str, int]]:
    counts = Counter(judged[claim.id].word for claim in found)
    return [(word, counts[word]) for word in WORDS if counts[word]]


def scatter(tested: Sequence[Claim], judged: Mapping[str, Verdict]) -> Markup | None:
    """Claims against our outcomes, with the line of identity and our intervals; None without a tested claim."""
    if not tested:
        return None
    near = sum(judged[c.id].word == "reproduced" for c in tested)
    said = f"{len(tested)} claims, {near} reproduced; below the line ours is less than the claim"
    return drawn(
        lambda: _draw(tested[:DOTS], judged), "scatter", "Our accuracy against the claimed one, per cent", said
    )


def _draw(tested: Sequence[Claim], judged: Mapping[str, Verdict]) -> Figure:
    figure = Figure(figsize=(6.4, 5.6), layout=None)
    axes: Axes = figure.add_axes((0.12, 0.13, 0.84, 0.84))
    axes.plot([0, 100], [0, 100], color=SOFT, linewidth=1)
    for kept, marker in ((True, "o"), (False, "v")):  # the shape says it, too: colours are not needed
        chosen = [c for c in tested if (judged[c.id].word in ("reproduced", "inconclusive")) is kept]
        seen = [(c.number, o) for c in chosen if (o := judged[c.id].observed)]
        x = [number for number, _ in seen]
        axes.vlines(x, [100 * o.low for _, o in seen], [100 * o.high for _, o in seen], colors=FILL, alpha=0.35)
        axes.scatter(
            x, [100 * o.value for _, o in seen], s=26, c=FILL, marker=marker, alpha=0.8, linewidths=0, zorder=3
        )
    axes.set(xlim=(0, 100), ylim=(0, 100), aspect="equal")
    plain_axes(axes, "claimed, %", "ours, %")
    return figure
