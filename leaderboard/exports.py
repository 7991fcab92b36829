"""The rows for other programs: CSV, JSON and a LaTeX table."""

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, reduce

from tabulate import tabulate

from vlm_gauntlet.attacks.levels import LEVELS

from .formatting import interval, threat_words
from .rank_groups import Key, RankRange, rank_ranges, row_key
from .rows import Row, headline
from .statistics import Estimate
from .table import HEADERS, beaten_words, converged_words, flag_names, label, rank_words, worst_words

BOLD, END = "\ue000", "\ue001"  # private characters stand for what must not be escaped
LEGEND = "Accuracy in %, 95 % Wilson interval. Bold: the best that ranks. †: masked, no evidence of robustness."
Ranks = Mapping[Key, RankRange]

LATEX = str.maketrans({c: f"\\{c}" for c in "_&%$#{}"} | {
    "\\": r"\textbackslash{}", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}",
})  # fmt: skip
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")  # what spreadsheets take a cell that begins so for


def numbers(name: str, estimate: Estimate | None) -> dict[str, float | None]:
    """A fraction and the bounds of its interval as three fields, all None where there is none."""
    field = name.replace("-", "_")
    return {
        field: estimate.value if estimate else None,
        f"{field}_low": estimate.low if estimate else None,
        f"{field}_high": estimate.high if estimate else None,
    }


Told = Callable[[Row], str]


def record(row: Row, place: RankRange | None = None, told: Told | None = None) -> dict[str, object]:
    """One row as flat data; fractions in [0, 1], `worst_case` only where it is valid.

    Args:
        row: any.
        place: its range of ranks, where it has one.
        told: who ran a row's cells, and what of them was recomputed, in words.
    """
    valid = row.worst.accuracy if row.worst and row.state == "valid" else None
    made: dict[str, object] = {
        "method": row.method, "backbone": row.backbone, "dataset": row.dataset, "norm": row.threat.norm,
        "eps": str(row.threat.eps), "modality": row.threat.modality, "seed": row.seed, "n": row.clean.n,
        "state": row.state, "masked_by": " ".join(f.name for f in row.masked_by), **numbers("clean", row.clean),
    }  # fmt: skip
    for level in LEVELS:
        made |= numbers(level.lower(), row.under(level))
    made |= numbers("worst_case", valid)
    made |= {
        "rank_best": place.best if place else None, "rank_worst": place.worst if place else None,
        "rank_of": place.of if place else None, "n_to_tell_next": place.needed if place else None,
        **dict(zip(("gap_to_next", "gap_to_next_low", "gap_to_next_high"), (place and place.gap) or (None,) * 3,
                   strict=True)),
        "broken_mostly_by": row.worst.breakers[0][0] if row.worst and row.worst.breakers else "",
        "beaten_by": row.beaten.protocol if row.beaten else "",
        "beaten_by_knowledge": row.beaten.knowledge if row.beaten else "",
        "beaten_by_budget": row.beaten.budget if row.beaten else "",
        "beaten_by_passes": row.beaten.passes if row.beaten else None,
        **numbers("beaten_by_leaves", row.beaten.accuracy if row.beaten else None),
        "convergence": converged_words(row), "open": row.convergence.open if row.convergence else None,
        "defence_passes": row.passes, "attack_passes": row.attack_passes, "flags": " ".join(flag_names(row)),
        "problem": row.problem, "evidence": told(row) if told else "",
        "outcomes": " ".join(o.key for o in row.outcomes),
    }  # fmt: skip
    return made


def to_json(found: Sequence[Row], ranks: Ranks | None = None, told: Told | None = None) -> str:
    """All rows as a JSON array, one object a row; `ranks` where they are known already."""
    return as_json(records(found, ranks, told))


def to_csv(found: Sequence[Row], ranks: Ranks | None = None, told: Told | None = None) -> str:
    """All rows as CSV with a header; an absent number is an empty field."""
    return as_csv(records(found, ranks, told))


def records(found: Sequence[Row], ranks: Ranks | None = None, told: Told | None = None) -> list[dict[str, object]]:
    """All rows as flat data."""
    places = rank_ranges(found) if ranks is None else ranks
    return [record(row, places.get(row_key(row)), told) for row in found]


def as_json(lines: Sequence[Mapping[str, object]]) -> str:
    """Flat data as a JSON array."""
    return json.dumps(lines, indent=1, allow_nan=False) + "\n"


def as_csv(lines: Sequence[Mapping[str, object]]) -> str:
    """Flat data as CSV; text that a spreadsheet would calculate has an apostrophe before it, and is text."""
    text = io.StringIO()
    if lines:
        writer = csv.DictWriter(text, list(lines[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: _inert(value) for name, value in line.items()} for line in lines)
    return text.getvalue()


def _inert(value: object) -> object:
    if not isinstance(value, str):
        return value
    one_line = value.replace("\r", " ")  # which the writer does not quote, and readers take for the end of a line
    return f"'{one_line}" if value.startswith(FORMULA) else one_line


def to_latex(found: Sequence[Row], ranks: Ranks | None = None) -> str:
    """The tables of the front page as LaTeX (booktabs), one `table` a block, every name escaped."""
    tables, places = [], rank_ranges(found) if ranks is None else ranks
    for (backbone, dataset, *_), block in headline(found).items():
        best = max((r.worst.accuracy.value for r in block if r.worst and r.state == "valid"), default=None)
        lines = [
            [_marked(r), rank, str(r.clean.n), needed, interval(r.clean), *(interval(r.under(k)) for k in LEVELS),
             _bold(r, best), beaten_words(r)]
            for r in block for rank, needed in [rank_words(places.get(row_key(r)))]
        ]  # fmt: skip
        caption = f"{backbone}, {dataset}, {threat_words(block[0].threat)}. {LEGEND}"
        tables.append(as_latex(lines, HEADERS[:-1], caption))
    return "\n".join(tables)


def _marked(row: Row) -> str:
    return label(row).replace(BOLD, "").replace(END, "") + ("†" if row.state == "masked" else "")


def _bold(row: Row, best: float | None) -> str:
    words = worst_words(row).replace(BOLD, "").replace(END, "")
    ranks = row.worst is not None and row.state == "valid" and row.worst.accuracy.value == best
    return f"{BOLD}{words}{END}" if ranks else words


def as_latex(lines: Sequence[Sequence[str]], headers: Sequence[str], caption: str) -> str:
    """One `table` (booktabs); caption and cells are plain text, escaped here."""
    body = tabulate(lines, headers, tablefmt="latex_booktabs", disable_numparse=True)
    made = f"\\begin{{table}}\n\\caption{{{latex_text(caption)}}}\n{body}\n\\end{{table}}\n"
    signs = {"–": "--", "→": r"$\to$", "L∞": r"$L_\infty$", "ε": r"$\varepsilon$"}
    signs |= {BOLD: r"\textbf{", END: "}", "†": r"$^\dagger$"}
    return reduce(lambda text, sign: text.replace(sign, signs[sign]), signs, made)


@lru_cache(maxsize=65536)  # the same names and titles stand in every entry
def latex_text(text: str) -> str:
    """Text in which LaTeX reads no command."""
    return text.translate(LATEX)
