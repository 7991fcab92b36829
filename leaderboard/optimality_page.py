"""The page of all attackers on all defences, and its rows as files."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment
from markupsafe import Markup

from .curve_chart import curve_chart
from .exports import as_csv, as_json
from .optimality import over_rows
from .sweeps import LEAST, Sweep, Table, records

DRAWINGS = 24  # each takes tens of milliseconds; what is not drawn stands in its table all the same


def write_optimality_page(pages: Environment, shared: dict[str, object], found: Sequence[Sweep], out: Path) -> None:
    """Writes `optimality.html`, `.csv` and `.json` into a site.

    Args:
        pages, shared: environment, and what every page knows.
        found: sorted by table; may be empty.
        out: the site's folder.
    """
    tables: dict[Table, list[Sweep]] = defaultdict(list)
    for sweep in found:
        tables[sweep.table].append(sweep)
    means = {table: over_rows(sweep.attackers for sweep in theirs) for table, theirs in tables.items()}
    text = pages.get_template("optimality.html.j2").render(**shared, root="", tables=tables, means=means, least=LEAST)
    lines = records(found)
    for kind, content in {"html": text, "csv": as_csv(lines), "json": as_json(lines)}.items():
        (out / f"optimality.{kind}").write_text(content, encoding="utf-8")


def drawings(found: Sequence[Sweep]) -> dict[tuple[str, ...], Markup | None]:
    """Drawn curves by the key of their sweep, of those that have most radii; each with ids of its own."""
    chosen = sorted(found, key=lambda sweep: -len(sweep.grid))[:DRAWINGS]
    return {
        sweep.key: curve_chart([one.curve for one in sweep.attackers], f"drawn-{place}", ", ".join(sweep.key[:2]))
        for place, sweep in enumerate(chosen, 1)
    }
