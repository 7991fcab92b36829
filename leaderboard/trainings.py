"""How much trainings of one method differ: the same recipe with other seeds, measured, in `trainings.csv` of a method.

The models meet the same samples, so that what differs is the training. The sheet is made by hand: train with
`gauntlet train <method> --seed S`, run the cells, write down clean and attacked accuracy.
"""

import csv
import statistics
from collections import defaultdict
from functools import cache
from pathlib import Path

from vlm_gauntlet import methods
from vlm_gauntlet.fixtures.errors import reading
from vlm_gauntlet.fixtures.parts import Parts, in_folders, read_all

from .comparison import SeedSpread

HERE = Path(next(iter(methods.__path__)))
FILE = "trainings.csv"
COLUMNS = ("backbone", "dataset", "protocol", "n", "seed", "clean", "attacked")


Sheet = list[dict[str, str]]


def read_sheet(path: Path) -> Sheet:
    """The lines of one sheet.

    Raises:
        GauntletError: it does not validate.
    """
    expected = f"columns {', '.join(COLUMNS)}"
    with (
        reading("trainings", path, expected=expected, fix="compare with methods/tecoa"),
        path.open(encoding="utf-8") as file,
    ):
        reader = csv.DictReader(file)
        if missing := [c for c in COLUMNS if c not in (reader.fieldnames or ())]:
            raise ValueError(f"line 1: no column {', '.join(missing)}")
        lines = []
        for line in reader:
            if None in line or None in line.values():
                raise ValueError(f"line {reader.line_num}: {len(COLUMNS)} fields are expected")
            for column in ("clean", "attacked"):
                if not 0 <= float(line[column]) <= 1:
                    raise ValueError(f"line {reader.line_num}: {column}: came {line[column]!r}; expected 0 to 1")
            lines.append(line)
    return lines


@cache
def parts() -> Parts[Sheet]:
    """The sheet of each method that was trained more than once, the broken ones with what is wrong."""
    return read_all("trainings sheet", in_folders(HERE, FILE), read_sheet, lambda path: path.parent.name)


@cache
def spread(method: str, backbone: str, *, clean: bool) -> SeedSpread | None:
    """The largest spread over the data sets that were measured; None where nobody trained twice.

    Raises:
        GauntletError: the sheet does not validate.
    """
    if method not in parts().usable and method not in parts().unusable:
        return None
    by_dataset: dict[str, list[float]] = defaultdict(list)
    for line in parts().get(method, "leaderboard"):
        if line["backbone"] == backbone:
            by_dataset[line["dataset"]].append(float(line["clean" if clean else "attacked"]))
    found = [SeedSpread(statistics.stdev(v), len(v)) for v in by_dataset.values() if len(v) > 1]
    return max(found, key=lambda s: s.sd, default=None)
