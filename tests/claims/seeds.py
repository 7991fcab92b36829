"""Reads the number tables out of the texts of two papers, so that the transcription of their claims cannot drift."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

FOLDER = Path(os.environ.get("GAUNTLET_SEEDS", Path(__file__).parents[3] / "shared" / "seeds"))
Cells = dict[tuple[str, str, str], str]
"""(table, row, column), as printed, to the value, as printed."""
NUMBER = re.compile(r"[+-]?\d+(\.\d+)?(min|h)?")
TICKS = ("none", "I'-T", "I-T'", "both")


def seed(number: str) -> str:
    """The text of one paper.

    Raises:
        FileNotFoundError: the texts are not on this machine.
    """
    found = sorted(FOLDER.glob(f"{number}_*.txt"))
    if not found:
        raise FileNotFoundError(f"{FOLDER}/{number}_*.txt")
    return found[0].read_text()


def _clean(cell: str) -> str:
    return re.sub(r"</?\w+>", "", cell).strip()


def _rows(text: str, table: str) -> Iterator[list[str]]:
    """Tab-separated lines after `TABLE <table>`, until something else begins."""
    start = re.search(rf"^TABLE {table}$", text, re.M) or re.search(rf"^TABLE {table}\s*$", text, re.M)
    assert start is not None, table
    begun = False
    for line in text[start.end() :].splitlines():
        if "\t" in line:
            begun = True
            yield [_clean(cell) for cell in line.split("\t")]
        elif begun and line.strip() and re.fullmatch(r"<i>.*</i>", line.strip()):
            yield [_clean(line)]
        elif begun and line.strip():
            return


def _grouped(names: list[str]) -> list[str]:
    """A header with spanning cells: an empty cell repeats the one before it."""
    filled: list[str] = []
    for name in names:
        filled.append(name or (filled[-1] if filled else ""))
    return filled


def survey_table_ii() -> Cells:
    """Seven methods, nine data sets, robust and clean."""
    header, kinds, *rows = list(_rows(seed("001"), "II"))
    over = _grouped(header[1:] + [""] * (len(kinds) - len(header)))
    return {
        ("Table II", row[0], f"{data} {kind}"): value
        for row in rows
        for data, kind, value in zip(over, kinds[1:], row[1:], strict=True)
    }


def mmcoa_tables() -> Cells:
    """Tables I to VIII."""
    text = seed("004")
    found: Cells = {}
    for table in ("I", "V", "VI", "VII"):
        found |= _two_headers(f"Table {table}", list(_rows(text, table)))
    for table in ("II", "III"):
        found |= _by_shots(f"Table {table}", list(_rows(text, table)))
    return found | _ablation(list(_rows(text, "IV"))) | _times(list(_rows(text, "VIII")))


def _two_headers(table: str, rows: list[list[str]]) -> Cells:
    """Blocks that begin with `Method`: a spanning header, a header, rows; `-` is a cell without a number."""
    found: Cells = {}
    over: list[str] = []
    under: list[str] | None = None
    for row in rows:
        if row[0] == "Method":
            over, under = row[1:], None
        elif under is None:
            under = row[1:]
            over = _grouped(over + [""] * (len(under) - len(over)))
        else:
            named = zip(over, under, row[1:], strict=True)
            found |= {(table, row[0], f"{o} {u}"): value for o, u, value in named if value != "-"}
    return found


def _by_shots(table: str, rows: list[list[str]]) -> Cells:
    (_, header, *body), shots = rows, "none"
    found: Cells = {}
    for row in body:
        if len([cell for cell in row if cell]) == 1:
            shots = row[0]
        else:
            name = row[0] if shots == "none" else f"{shots} {row[0]}"
            found |= {(table, name, column): value for column, value in zip(header[1:], row[1:], strict=True)}
    return found


def _ablation(rows: list[list[str]]) -> Cells:
    """The ticks of the first rows are displaced in the text; the order of the rows says which is which."""
    found: Cells = {}
    kinds, header, tick = ["", ""], [""], 0
    for row in rows:
        if "Attack" in "".join(row):
            kinds, header, tick = [cell for cell in row if "Attack" in cell or cell == "Clean"], [], 0
        elif not header:
            header = row[2:]
        else:
            over = [kinds[0]] * 4 + [kinds[1]] * 4
            named = zip(over, header, row[2:], strict=True)
            found |= {("Table IV", TICKS[tick], f"{o} {u}"): value for o, u, value in named}
            tick += 1
    return found


def _times(rows: list[list[str]]) -> Cells:
    header, *body = rows
    found: Cells = {}
    setting = ""
    for row in body:
        if len([cell for cell in row if cell]) == 1:
            setting = row[0].rstrip(".")
        else:
            found |= {("Table VIII", f"{setting} {row[0]}", c): v for c, v in zip(header[1:], row[1:], strict=True)}
    return found
