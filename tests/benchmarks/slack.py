"""How much a stronger attack takes than the attacks of a tier, on the same samples and fresh scoring draws.

python tests/benchmarks/slack.py tecoa cola --backbone miniclip-vit --dataset fashion_mnist --eps 16/255 --limit 64 \
    --against pgd-20-adaptive apgd-t-20-white-box --by ensemble-adaptive --table slack.csv

`slack_2026-11.csv` holds what it measured. Columns: `standing`, samples that stand (a share of the draws each, clean
images among them); `converged`, share of samples whose curve is flat; `forward` and `backward`, passes a sample.
"""

import argparse
import csv
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from fractions import Fraction
from pathlib import Path

import torch
from torch import Tensor

from vlm_gauntlet.attacks.protocols import protocol, varied
from vlm_gauntlet.fixtures.backbones import load_backbone
from vlm_gauntlet.fixtures.datasets import Batch, dataset
from vlm_gauntlet.fixtures.draws import key_of
from vlm_gauntlet.fixtures.protocols import Protocol
from vlm_gauntlet.methods.registry import method
from vlm_gauntlet.suites.batch import Evaluation, attack_batch
from vlm_gauntlet.suites.scoring import InProcess
from vlm_gauntlet.suites.sources import sources


@dataclass
class Row:
    """What one method left under one protocol; `stands`, of each sample the share of the draws, stays out of tables."""

    method: str
    backbone: str
    dataset: str
    protocol: str
    changed: str
    n: int = 0
    draws: int = 1
    standing: float = 0.0
    converged: float | str = ""
    forward: int = 0
    backward: int = 0
    seconds: int = 0
    stands: list[float] = field(default_factory=list)


COLUMNS = [column.name for column in fields(Row)][:-1]


def measured(name: str, asked: Protocol, changed: str, told: argparse.Namespace) -> Row:
    """Attacks and scores; tells after each batch."""
    backbone, data = load_backbone(told.backbone, "cpu"), dataset(told.dataset)
    defence = method(name).build(backbone)
    undefended, prompts = method("undefended").build(backbone), data.prompted(asked.evaluation.prompts)
    evaluation = Evaluation(defence, undefended, prompts, asked, told.seed, sources(defence, backbone))
    draws = told.draws if defence.card.randomised else 1
    row = Row(name, backbone.name, data.name, asked.id, changed, draws=draws)
    sizes = {"limit": told.limit, "batch_size": told.batch_size, "size": backbone.image_size}
    converged: list[float] = []
    for batch in data.batches(preprocessing=asked.evaluation.preprocessing, **sizes):
        began = time.process_time()
        made = attack_batch(evaluation, batch)
        row.seconds += round(time.process_time() - began)
        row.n, earlier = row.n + len(batch.labels), row.n
        row.forward = (row.forward * earlier + made.cost.forward) // row.n
        row.backward = (row.backward * earlier + made.cost.backward) // row.n
        converged += made.telemetry.get("converged", torch.empty(0)).tolist()
        row.converged = round(sum(converged) / len(converged), 3) if converged else ""
        images = batch.images if made.images is None else made.images
        attacked = right(evaluation, batch, images, draws)
        row.stands += torch.minimum(attacked, clean_right(evaluation, batch, draws)).tolist()
        row.standing = round(sum(row.stands), 2)
        print(json.dumps(asdict(row)), flush=True)
    return row


def right(evaluation: Evaluation, batch: Batch, images: Tensor, draws: int) -> Tensor:
    """Share of the draws in which images [B, 3, H, W] are classified right [B]."""
    keys = [key_of(evaluation.seed, "score", i) for i in batch.ids]
    found = InProcess(evaluation.defence).score(images, evaluation.prompts, keys, range(draws))
    return (found.classes == batch.labels).float().mean(0)


CLEAN: dict[tuple[object, ...], Tensor] = {}


def clean_right(evaluation: Evaluation, batch: Batch, draws: int) -> Tensor:
    """The same of the clean images, asked once a method."""
    key = (type(evaluation.defence), *batch.ids)
    if key not in CLEAN:
        CLEAN[key] = right(evaluation, batch, batch.images, draws)
    return CLEAN[key]


def main(told: argparse.Namespace) -> None:
    """Adds one line a method and protocol to the table; prints the tier's worst case a sample, and the slack."""
    eps = "-linf-" + str(Fraction(told.eps)).replace("/", "-")
    changes = {key: json.loads(value) for key, value in (pair.split("=") for pair in told.set)}
    for name in told.methods:
        CLEAN.clear()
        worst: dict[str, list[float]] = {}
        for side, protocols in (("against", told.against), ("by", told.by)):
            for family in protocols:
                asked, changed = protocol(family + eps), ""
                if side == "by" and changes:
                    asked, changed = varied(asked, **changes), " ".join(told.set)
                row = measured(name, asked, changed, told)
                worst[side] = [min(pair) for pair in zip(worst.get(side, row.stands), row.stands, strict=True)]
                if told.table:
                    add(told.table, row)
        if len(worst) == 2:
            left, taken = sum(worst["against"]), sum(worst["by"])
            print(f"{name}: tier {left:.2f}, stronger {taken:.2f}, slack {left - taken:.2f} of {len(worst['by'])}")


def add(table: Path, row: Row) -> None:
    """Appends a line, below a header in a new file."""
    new = not table.exists()
    with table.open("a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore", lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(asdict(row))


def arguments(asked: Sequence[str] | None = None) -> argparse.Namespace:
    """Of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="+")
    parser.add_argument("--backbone", default="miniclip-vit")
    parser.add_argument("--dataset", default="fashion_mnist")
    parser.add_argument("--eps", default="16/255")
    parser.add_argument("--limit", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--draws", type=int, default=30, help="fresh draws that score a randomised defence")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--against", nargs="*", default=["pgd-20-adaptive", "apgd-t-20-white-box"])
    parser.add_argument("--by", nargs="*", default=["ensemble-adaptive"])
    parser.add_argument("--set", nargs="*", default=[], metavar="PARAMETER=JSON", help="of the stronger attack")
    parser.add_argument("--table", type=Path, help="file that gets the lines")
    return parser.parse_args(asked)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(arguments())
