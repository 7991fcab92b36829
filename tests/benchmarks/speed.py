"""One table of what we cost beside our peers, and a CSV of it: `make bench`.

python -m tests.benchmarks.speed --out build/speed.csv            # minutes on two cores; torchattacks and foolbox help
python -m tests.benchmarks.speed --only attacks --size smoke      # the least, to see that it runs
python -m tests.benchmarks.speed --table tests/benchmarks/speed_2026-11.csv    # of a CSV, as the documentation has it
"""

import argparse
import csv
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch

from . import flops, growth, peers, ttc_loop
from .paired import Row, machine


@dataclass(frozen=True)
class Size:
    """How large the work is.

    Args:
        images: of an attack.
        pairs: of timings.
        steps: of PGD, its long form, a part of AutoAttack, and the whole.
        classes: of the cell of TTC.
        batches, batch: of the cell of TTC.
        views: images of R-TPT.
        towers: name, images and steps of each run whose work is counted.
        samples, cells: sizes at which growth is looked at.
    """

    images: int
    pairs: int
    steps: tuple[int, int, int, int]
    classes: tuple[int, ...]
    batches: int
    batch: int
    views: int
    towers: tuple[tuple[str, int, int], ...]
    samples: tuple[int, ...]
    cells: tuple[int, ...]


SIZES = {
    "smoke": Size(2, 2, (1, 2, 2, 1), (10,), 1, 2, 2, (("miniclip-vit", 4, 1),), (2, 4, 6), (1, 2, 3)),
    "usual": Size(
        24, 9, (10, 100, 10, 5), (10, 100, 1000), 4, 8, 8, (("miniclip-vit", 64, 10), (flops.RANDOM, 64, 1)),
        (64, 256, 1024), (1, 4, 8),
    ),
}  # fmt: skip


def attacks(size: Size) -> Iterator[Row]:
    """PGD, long PGD, the parts of AutoAttack, and the whole, against each peer that is installed."""
    short, long, part, whole = size.steps
    scenes = {name: peers.scene(name, size.images) for name in ("undefended", "tecoa")}
    for found in scenes.values():
        yield from peers.rows(found, peers.pgd(short), size.pairs)
    yield from peers.rows(scenes["tecoa"], peers.pgd(long), max(2, size.pairs // 2))
    for match in peers.parts(part):
        yield from peers.rows(scenes["tecoa"], match, size.pairs)
    yield from peers.rows(peers.scene("tecoa", max(2, size.images // 3)), peers.whole(whole), max(2, size.pairs // 3))


def cells(size: Size) -> Iterator[Row]:
    """TTC's cell against a loop, R-TPT in batches against one image at a time."""
    for classes in size.classes:
        yield from ttc_loop.rows(classes, batches=size.batches, batch=size.batch, pairs=max(2, size.pairs // 2))
    yield ttc_loop.batched(size.views, max(2, size.pairs // 2))


def machines(size: Size) -> Iterator[Row]:
    """Share of the matrix product in the attack's loop."""
    for name, images, steps in size.towers:
        yield from flops.rows(name, batch=images, steps=steps, pairs=max(2, size.pairs // 3))


def growths(size: Size) -> Iterator[Row]:
    """Growth with samples and with cells."""
    yield from growth.rows(size.samples, size.cells, limit=min(24, size.samples[0]))


BENCHES: dict[str, Callable[[Size], Iterator[Row]]] = {
    "attacks": attacks, "cells": cells, "machine": machines, "growth": growths,
}  # fmt: skip
PLACE = ("processor", "threads", "torch", "when")
COLUMNS = [*(f.name for f in fields(Row)), *PLACE]


def written(row: Row, place: dict[str, str]) -> dict[str, str]:
    """A line of the CSV: numbers with three places that count."""
    told = {k: f"{v:.4g}" if isinstance(v, float) else str(v) for k, v in asdict(row).items()}
    return told | place


def table(lines: Sequence[dict[str, str]]) -> str:
    """The lines as a Markdown table, with where they were taken."""
    head = ("work", "against", "ours", "theirs", "unit", "ratio [95 %]", "wall", "target", "load")
    rows = [
        (line["work"], line["peer"], line["ours"], line["theirs"], line["unit"],
         line["ratio"] + (f" [{line['low']}-{line['high']}]" if line["low"] else ""), line["wall"], line["target"],
         line["load"])
        for line in lines
    ]  # fmt: skip
    places = dict.fromkeys(f"{x['processor']}, threads {x['threads']}, torch {x['torch']}" for x in lines)
    when = f"{lines[0]['when']} to {lines[-1]['when']}" if lines else ""
    body = ["| " + " | ".join(row) + " |" for row in (head, ("---",) * len(head), *rows)]
    return "\n".join([*body, "", f"{'; '.join(places)}; {when}."])


def arguments(given: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=list(BENCHES), help="repeatable; default: all")
    parser.add_argument("--size", choices=list(SIZES), default="usual")
    parser.add_argument("--threads", type=int, default=1, help="of torch, here and in the runs that are started")
    parser.add_argument("--out", type=Path, default=Path("build/speed.csv"))
    parser.add_argument("--table", type=Path, help="print this CSV as a table, and measure nothing")
    return parser.parse_args(given)


def main(asked: argparse.Namespace) -> None:
    """Measures, writes each line as soon as it is there, prints the table."""
    if asked.table:
        with asked.table.open(newline="") as file:
            print(table(list(csv.DictReader(file))))
        return
    os.environ["OMP_NUM_THREADS"] = str(asked.threads)
    torch.set_num_threads(asked.threads)
    for name, told in peers.available().items():
        print(f"{name} {told}", file=sys.stderr)
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    lines = []
    with asked.out.open("w", newline="") as file:
        out = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        out.writeheader()
        for name in asked.only or BENCHES:
            for row in BENCHES[name](SIZES[asked.size]):
                lines.append(written(row, machine()))
                out.writerow(lines[-1])
                file.flush()
                print(f"{row.work} / {row.peer}: {row.ratio:.3g} {row.note}", file=sys.stderr, flush=True)
    print(table(lines))


if __name__ == "__main__":
    main(arguments(sys.argv[1:]))
