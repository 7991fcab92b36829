"""The page of image-text retrieval, its rows for other programs, and its table as text."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

from jinja2 import Environment
from tabulate import tabulate

from vlm_gauntlet.attacks.multimodal.recipes import RECIPES
from vlm_gauntlet.suites.recall import DEFINITIONS, KS
from vlm_gauntlet.suites.retrieval_records import FOLDER, RetrievalOutcome

from .exports import as_csv, as_json, as_latex, numbers
from .formatting import percent
from .retrieval import RetrievalRow, retrieval_tables

HEADERS = ("method", "attack", "queries", "n", *(f"R@{k}" for k in KS), *(f"lost R@{k}" for k in KS))
ATTACKER = "The attacker knows the tower (white-box) and attacks every image and every caption, also one wrong before."
LEGEND = f"""\
R@k in %, clean → attacked: attacked images among attacked captions. {ATTACKER}
{chr(10).join(f"{name}: {meaning}" for name, meaning in DEFINITIONS.items())}"""


def write_retrieval_page(
    pages: Environment,
    shared: dict[str, object],
    outcomes: Sequence[RetrievalOutcome],
    out: Path,
    *,
    linked: frozenset[str],
) -> None:
    """Writes `retrieval.html`, `retrieval.csv`, `.json` and `.tex`, and every raw outcome into a site.

    Args:
        pages, shared: environment, and what every page knows.
        outcomes: at least one.
        out: the site's folder.
        linked: methods that have a page of their own.
    """
    tables = retrieval_tables(outcomes)
    rows = [row for found in tables.values() for row in found]
    attacks = {name: RECIPES[name] for name in RECIPES if name in {row.outcome.cell.attack for row in rows}}
    text = pages.get_template("retrieval.html.j2").render(
        **shared, root="", tables=tables, linked=linked, definitions=DEFINITIONS, attacker=ATTACKER, attacks=attacks
    )
    records = [record for row in rows for record in retrieval_records(row)]
    (out / FOLDER).mkdir()
    for outcome in outcomes:
        (out / FOLDER / f"{outcome.key}.json").write_text(outcome.model_dump_json(indent=1) + "\n", encoding="utf-8")
    written = {"html": text, "csv": as_csv(records), "json": as_json(records), "tex": retrieval_latex(outcomes)}
    for kind, content in written.items():
        (out / f"retrieval.{kind}").write_text(content, encoding="utf-8")


def retrieval_records(row: RetrievalRow) -> list[dict[str, object]]:
    """One row as flat data, one object a direction and k; fractions in [0, 1]."""
    cell, outcome = row.outcome.cell, row.outcome
    return [
        {
            "method": cell.method, "backbone": cell.backbone, "dataset": cell.dataset, "attack": cell.attack,
            "norm": "linf", "eps": str(cell.eps), "words_source": cell.text.source, "words": cell.text.budget,
            "seed": cell.seed, "direction": way.name, "k": found.k, "n": way.n, **numbers("clean", found.clean),
            **numbers("attacked", found.attacked), "drop": found.drop, **numbers("lost", found.lost),
            "captions": outcome.text_to_image.n, "captions_changed": outcome.captions_changed, "outcome": outcome.key,
        }
        for way in row.directions
        for found in way.recalls
    ]  # fmt: skip


def _lines(row: RetrievalRow) -> list[list[str]]:
    return [
        [
            row.label, f"{row.outcome.cell.attack} ({row.words})", way.name, str(way.n),
            *(f"{percent(found.clean.value)} → {percent(found.attacked.value)}" for found in way.recalls),
            *(percent(found.lost.value) if found.lost else "–" for found in way.recalls),
        ]
        for way in row.directions
    ]  # fmt: skip


def _title(place: tuple[str, str, Fraction], between: str) -> str:
    backbone, dataset, eps = place
    return between.join(("image-text retrieval", backbone, dataset, f"L∞, ε = {eps}"))


def retrieval_text(outcomes: Sequence[RetrievalOutcome]) -> str:
    """The tables as text, R@k in per cent; empty where there are no outcomes."""
    blocks = [
        f"{_title(place, ' · ')}\n"
        + tabulate([line for row in rows for line in _lines(row)], HEADERS, tablefmt="simple", disable_numparse=True)
        for place, rows in retrieval_tables(outcomes).items()
    ]
    return "\n\n".join([*blocks, LEGEND]) if blocks else ""


def retrieval_latex(outcomes: Sequence[RetrievalOutcome]) -> str:
    """The tables as LaTeX (booktabs), one `table` a backbone, data set and eps."""
    return "\n".join(
        as_latex(
            [line for row in rows for line in _lines(row)], HEADERS,
            f"{_title(place, ', ')}. R@k in %, clean → attacked; lost: of the queries right before, the share wrong "
            "after, in %.",
        )
        for place, rows in retrieval_tables(outcomes).items()
    )  # fmt: skip
