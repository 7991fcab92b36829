"""The board as text: one table a backbone, data set and threat model."""

from collections.abc import Mapping, Sequence

from tabulate import tabulate

from vlm_gauntlet.attacks.levels import LEVELS
from vlm_gauntlet.fixtures.records import Outcome

from .formatting import interval, percent, threat_words
from .rank_groups import Key, RankRange, rank_ranges, row_key
from .rows import Row, headline, rows

HEADERS = ("method", "rank", "n", "n to tell next", "clean", *LEVELS, "worst case", "beaten by", "flags")
LEGEND = f"""\
Accuracy in % with 95 % Wilson interval over n samples, worst case per sample over the attacks of a level.
{"".join(f"{level}: {meaning}.{chr(10)}" for level, meaning in LEVELS.items())}\
Where images and text are attacked, an attack on either alone counts too: who may change both need not.
rank: the places that chance leaves open, from paired tests of all rows of a table; sorted by worst case.
n to tell next: samples that would tell the row from the next in 80 % of cases, were the gap as large as it looks.
beaten by: the attack that alone leaves least, of equals the cheapest.
T0 is counted as papers count it; worst case: over all levels, a sample counting only where its clean image is right.
Embedded backbones (miniclip-vit, miniclip-cnn) are small, and their numbers are not those of papers: how far the order
of the methods agrees is what `gauntlet claims direction` measures."""


def worst_words(row: Row) -> str:
    """The worst case with interval, or why there is none."""
    if row.state == "valid" and row.worst:
        return interval(row.worst.accuracy)
    if row.state == "upper bound" and row.worst:
        return f"at most {percent(row.worst.accuracy.value)}: {'; '.join(row.missing)}"
    if row.state == "masked" and row.worst:
        return f"masked ({percent(row.worst.accuracy.value)})"
    return row.state


def beaten_words(row: Row) -> str:
    """The attack that alone leaves least, and what it leaves."""
    return f"{row.beaten.protocol} (leaves {percent(row.beaten.accuracy.value)})" if row.beaten else "–"


def converged_words(row: Row) -> str:
    """Whether more budget would break more, as far as an attack tells that watches its own."""
    if row.convergence is None:
        return "convergence not tested"
    return "converged" if row.convergence.reached else "not converged"


def label(row: Row) -> str:
    """The method, with its seed where that is not 0."""
    return f"{row.method} (seed {row.seed})" if row.seed else row.method


def flag_names(row: Row) -> list[str]:
    """Names of the row's flags, each once."""
    return list(dict.fromkeys(flag.name for flag in row.flags))


def rank_words(place: RankRange | None) -> tuple[str, str]:
    """The open ranks (`1–3`), and the samples that would tell the row from the next; dashes where there are none."""
    return (place.words, str(place.needed or "–")) if place else ("–", "–")


def _line(row: Row, ranks: Mapping[Key, RankRange]) -> list[str]:
    rank, needed = rank_words(ranks.get(row_key(row)))
    columns = (interval(row.under(level)) for level in LEVELS)
    return [label(row), rank, str(row.clean.n), needed, interval(row.clean), *columns,
            worst_words(row), beaten_words(row), ", ".join(flag_names(row)) or "–"]  # fmt: skip


def text_table(outcomes: Sequence[Outcome], judged: Sequence[Row] | None = None) -> str:
    """All tables of the front page as text; accuracies in per cent with 95 % Wilson intervals, sorted by worst case.

    Args:
        outcomes: what the rows are made of.
        judged: the rows themselves, where they are made already.
    """
    blocks = []
    found_rows = rows(outcomes) if judged is None else judged
    ranks = rank_ranges(found_rows)
    for (backbone, dataset, *_), found in headline(found_rows).items():
        title = f"{backbone} · {dataset} · {threat_words(found[0].threat)}"
        # Text cells stay text: tabulate would otherwise read "41.20" as a number and drop the zero.
        blocks.append(
            f"{title}\n{tabulate([_line(r, ranks) for r in found], HEADERS, tablefmt='simple', disable_numparse=True)}"
        )
    return "\n\n".join([*blocks, LEGEND]) if blocks else "no outcomes yet: run `gauntlet run --help`"
