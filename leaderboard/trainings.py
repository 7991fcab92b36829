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

from .comparison import SeedSpread

HERE = Path(next(iter(methods.__path__)))


@cache
def spread(method: str, backbone: str, *, clean: bool) -> SeedSpread | None:
    """The largest spread over the data sets that were measured; None where nobody trained twice.

    Raises:
        GauntletError: the sheet does not validate.
    """
    path = HERE / method / "trainings.csv"
    if not path.is_file():
        return None
    by_dataset: dict[str, list[float]] = defaultdict(list)
    expected = "columns backbone, dataset, protocol, n, seed, clean, attacked"
    with reading("trainings", path, expected=expected, fix="compare with methods/tecoa"), path.open() as file:
        for line in csv.DictReader(file):
            if line["backbone"] == backbone:
                by_dataset[line["dataset"]].append(float(line["clean" if clean else "attacked"]))
    found = [SeedSpread(statistics.stdev(v), len(v)) for v in by_dataset.values() if len(v) > 1]
    return max(found, key=lambda s: s.sd, default=None)
