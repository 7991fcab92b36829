"""The page of trained methods across data sets: what each keeps in-distribution, and what zero-shot."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment

from .exports import as_csv, as_json
from .formatting import threat_words
from .rows import Row
from .training_sets import Setting, setting, trained_on


@dataclass(frozen=True)
class Cell:
    """A row of the board, and what its data set is for the model."""

    row: Row
    setting: Setting


@dataclass(frozen=True)
class Line:
    """One trained method: its cells by data set."""

    method: str
    seed: int
    trained_on: str
    cells: dict[str, Cell]


@dataclass(frozen=True)
class Table:
    """The trained methods of one backbone under one threat, over the data sets that any of them met."""

    backbone: str
    threat: str
    datasets: tuple[str, ...]
    lines: tuple[Line, ...]


def tables(found: Sequence[Row]) -> list[Table]:
    """All tables that compare something: a trained method on two data sets or more."""
    blocks: dict[tuple[object, ...], dict[tuple[str, int], Line]] = defaultdict(dict)
    named: dict[tuple[object, ...], Row] = {}
    for row in found:
        known = trained_on(row.method, row.backbone)
        if known is None or row.control or row.state == "no attack":
            continue
        backbone, dataset, *threat = row.block
        key = (backbone, *threat)
        named.setdefault(key, row)
        line = blocks[key].setdefault((row.method, row.seed), Line(row.method, row.seed, known, {}))
        line.cells[dataset] = Cell(row, setting(known, dataset))
    made = []
    for key, by_method in blocks.items():
        lines = tuple(line for _, line in sorted(by_method.items()))
        datasets = tuple(sorted({dataset for line in lines for dataset in line.cells}))
        if any(len(line.cells) > 1 for line in lines):
            made.append(Table(named[key].backbone, threat_words(named[key].threat), datasets, lines))
    return sorted(made, key=lambda table: (table.backbone, table.threat))


def write_transfer_page(pages: Environment, shared: dict[str, object], found: Sequence[Row], out: Path) -> None:
    """Writes `transfer.html`, `.csv` and `.json` into a site.

    Args:
        pages, shared: environment, and what every page knows.
        found: rows of the board; may be empty.
        out: the site's folder.
    """
    made = tables(found)
    text = pages.get_template("transfer.html.j2").render(**shared, root="", tables=made)
    lines = [record for table in made for record in _records(table)]
    for kind, content in {"html": text, "csv": as_csv(lines), "json": as_json(lines)}.items():
        (out / f"transfer.{kind}").write_text(content, encoding="utf-8")


def _records(table: Table) -> list[dict[str, object]]:
    return [
        {
            "backbone": table.backbone, "threat": table.threat, "method": line.method, "seed": line.seed,
            "trained_on": line.trained_on, "dataset": dataset, "setting": cell.setting, "n": cell.row.clean.n,
            "clean": cell.row.clean.value, "worst": cell.row.worst.accuracy.value if cell.row.worst else None,
            "state": cell.row.state,
        }
        for line in table.lines
        for dataset, cell in line.cells.items()
    ]  # fmt: skip
