"""Writes a folder of made-up outcomes that the board takes as sound: what a board costs at any size is measured on it.

python -m tests.benchmarks.outcomes /tmp/ten-thousand --count 10000    # real CLIP on sets that are not here
python -m tests.benchmarks.outcomes /tmp/embedded --embedded           # the cells of the fast tier
/usr/bin/time -v gauntlet board --outcomes /tmp/ten-thousand --out /tmp/site

The numbers mean nothing; the digests are those that the code here gives, so that every outcome is judged to its end.
"""

import argparse
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice, product
from pathlib import Path

from vlm_gauntlet.attacks.protocols import protocol
from vlm_gauntlet.attacks.registry import build
from vlm_gauntlet.fixtures.datasets import datasets
from vlm_gauntlet.fixtures.natural_sets import natural_sets
from vlm_gauntlet.fixtures.records import Cell, Cost, Outcome, Provenance, Sample
from vlm_gauntlet.methods.registry import methods
from vlm_gauntlet.suites.batch import confirming_draws
from vlm_gauntlet.suites.known_here import KnownHere
from vlm_gauntlet.suites.plausible import _definitions, _recomputed, expected_draws, required_indicators
from vlm_gauntlet.suites.tiers import tier

BACKBONES = ("open_clip:ViT-B-32-quickgelu/openai", "open_clip:ViT-L-14-quickgelu/openai")
PROTOCOLS = (
    "clean", "pgd-10-transfer-linf-1-255", "pgd-10-white-box-linf-1-255", "pgd-20-adaptive-linf-1-255",
    "apgd-ce-20-white-box-linf-1-255", "apgd-t-20-white-box-linf-1-255", "pgd-10-white-box-linf-4-255",
    "pgd-20-adaptive-linf-4-255",
)  # fmt: skip
MADE = datetime(2026, 1, 2, tzinfo=UTC)
SETS = 16


def cells(count: int) -> Iterator[tuple[str, str, str, str, int]]:
    """Method, backbone, data set, protocol and seed of so many cells: whole rows, the methods first."""
    sets = sorted(natural_sets().keys() - datasets().keys())[:SETS]
    asked = product(range(99), BACKBONES, sets, sorted(methods()), PROTOCOLS)
    yield from islice(((m, b, d, p, s) for s, b, d, m, p in asked), count)


def of_tier(name: str) -> Iterator[tuple[str, str, str, str, int]]:
    """The same of a tier on an embedded backbone."""
    asked = tier(name)
    yield from (
        (m, asked.backbone, d, p, asked.seed) for m, d, p in product(asked.methods, asked.datasets, asked.protocols)
    )


def made(here: KnownHere, place: tuple[str, str, str, str, int], n: int) -> Outcome:
    """One outcome with the digests of the code that is here and bits that a seed draws."""
    name, backbone, dataset, protocol_id, seed = place
    asked, chosen, drawn = protocol(protocol_id), here.method(name), random.Random(repr(place))
    assert chosen is not None
    digests = {"method_digest": "m", "backbone_digest": "b"} | here.digests(name, backbone, asked)
    try:
        data, ids = here.samples(dataset, n)
        digests |= {"dataset_digest": data.digest, "prompts_digest": data.prompted(asked.evaluation.prompts).digest}
    except Exception:
        ids = {f"{i:05d}": i % 10 for i in range(n)}
        digests |= {"dataset_digest": "d", "prompts_digest": "p"}
    attack = build(asked)
    coupled = chosen.card.batch_coupled or (attack is not None and attack.couples_batch)
    cell = Cell(
        method=name, backbone=backbone, dataset=dataset, protocol=asked, seed=seed, limit=n,
        batch_size=32 if coupled else None, **{k: v for k, v in digests.items() if v is not None},
    )  # fmt: skip
    randomised = chosen.card.randomised
    probe = Outcome.model_construct(cell=cell, draws=1)
    draws = expected_draws(probe, randomised=randomised)
    fresh = confirming_draws(asked, randomised=randomised)
    samples = []
    for i, label in ids.items():
        clean = draws * (drawn.random() < 0.8)
        robust = clean if attack is None or drawn.random() < 0.4 else 0
        samples.append(
            Sample(id=i, label=label, clean=clean, attacked=robust, fresh=fresh * (robust > 0) if fresh else None)
        )
    told = Outcome.model_construct(cell=cell, draws=draws, samples=tuple(samples))
    known = {name: i for name, i in _definitions(attack).items() if name in required_indicators(told)}
    quiet = {"dead-gradient": 1.0, "gradient-misleads": 1.0}
    values = {name: quiet.get(name, 0.0) for name in known} | {k: v for k, v in _recomputed(told).items() if k in known}
    passes = chosen.card.cost
    return Outcome(
        key=cell.key, cell=cell, draws=draws, confirming=fresh, samples=tuple(samples),
        defence_cost=Cost(forward=len(ids) * (passes.forward if passes else 1), backward=0, seconds=1.0),
        attack_cost=Cost(forward=10 * len(ids), backward=10 * len(ids), seconds=10.0),
        indicators=tuple(i.model_copy(update={"value": values[k], "fired": False}) for k, i in known.items()),
        provenance=Provenance(
            made=MADE + timedelta(hours=seed), device="cpu", versions={}, command="gauntlet run", batch_size=32
        ),
    )  # fmt: skip


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--samples", type=int, default=24)
    parser.add_argument("--embedded", action="store_true")
    told = parser.parse_args()
    told.folder.mkdir(parents=True, exist_ok=True)
    here = KnownHere()
    for place in of_tier("fast") if told.embedded else cells(told.count):
        outcome = made(here, place, told.samples)
        (told.folder / f"{outcome.key}.json").write_text(outcome.model_dump_json(indent=1) + "\n")


if __name__ == "__main__":
    main()
