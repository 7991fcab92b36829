"""Verifying an outcome: samples that the verifier chooses are attacked and scored again, and compared bit by bit."""

import random
import secrets
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from math import comb, isclose

import torch

from vlm_gauntlet.attacks.text.cache import searching_again
from vlm_gauntlet.attacks.text.prompts import attacked_prompts
from vlm_gauntlet.fixtures.datasets import Batch
from vlm_gauntlet.fixtures.device import device_name
from vlm_gauntlet.fixtures.errors import GauntletError
from vlm_gauntlet.fixtures.parts import ANYTHING, raised
from vlm_gauntlet.fixtures.records import Cell, Outcome, Sample
from vlm_gauntlet.methods.late_files import moved

from .archive import ArchivedImages, ArchiveError
from .attacking import Attacker
from .batch import score_batch
from .cells import CellPlan
from .indicators import indicators_of
from .journal import BatchResult
from .known_here import KnownHere
from .plausible import DIGESTS, Doubt, doubts
from .running import attacker, witness
from .verification_records import Difference, Verification
from .versions import versions_here

SAMPLES = 8
FIELDS = ("label", "clean", "attacked", "fresh")


class CannotVerifyError(GauntletError):
    """The outcome can neither be confirmed nor refuted on this machine."""


def recompute(plan: CellPlan, ids: Collection[str]) -> dict[str, Sample]:
    """Attacks and scores samples of a cell again: id -> what comes out.

    A sample's bits do not depend on its neighbours; where a cell couples the samples of a batch, whole batches run.
    """
    with attacker(plan) as attacking:
        results = batches_again(plan, attacking, ids)
    return {sample.id: sample for result in results for sample in result.samples if sample.id in ids}


def batches_again(
    plan: CellPlan, attacking: Attacker, ids: Collection[str], kept: ArchivedImages | None = None
) -> list[BatchResult]:
    """The same as the results of batches: attacked as in a run or taken from an archive, scored by a fresh witness."""
    attack = attacking.attack if kept is None else kept.made
    attacked_prompts.cache_clear()  # texts are attacked again, not taken from where the run left them
    with searching_again(), witness(plan, attacking.cell) as scorer:
        return [
            score_batch(attacking.asked, batch, attack(batch), scorer)
            for batch in _batches(plan, ids, whole=attacking.cell.batch_size is not None)
        ]


def _batches(plan: CellPlan, ids: Collection[str], *, whole: bool) -> Iterator[Batch]:
    for batch in plan.batches():
        place = [i for i, name in enumerate(batch.ids) if name in ids]
        if place and (whole or len(place) == len(batch.ids)):
            yield batch
        elif place:
            kept = torch.tensor(place)
            yield Batch(tuple(batch.ids[i] for i in place), batch.images[kept], batch.labels[kept])


def verify(
    outcome: Outcome, here: KnownHere, *, samples: int = SAMPLES, seed: int | None = None, device: str = "cpu",
    by: str = "unknown", kept: ArchivedImages | None = None,
) -> Verification:  # fmt: skip
    """Recomputes samples of an outcome and compares.

    Args:
        outcome: what somebody says came out.
        here: methods and protocols that count as known.
        samples: how many; all of them or more: the indicators are compared, too.
        seed: what they are chosen by; default: one that nobody can have prepared for.
        device: where to compute.
        by: who verifies.
        kept: the attacked images of the run, which are then looked at and scored, and not made again; that they are
            the work of the protocol's attack is not shown by it.

    Raises:
        ArchiveError: `kept` holds what no attack of this protocol makes.
        CannotVerifyError: method, weights, data, protocol or code of the outcome are not those of this machine.
    """
    plan = _plan(outcome, here, device)
    seed = secrets.randbits(63) if seed is None else seed
    recorded = {s.id: s for s in outcome.samples}
    chosen = random.Random(seed).sample(sorted(recorded), min(samples, outcome.n))
    try:
        with attacker(plan) as attacking:
            cell = attacking.cell
            if kept is not None:  # the attack does not run, so its code may be another
                cell = cell.model_copy(update={"attack_digest": outcome.cell.attack_digest})
            _check_same(outcome, cell)
            if kept is not None:
                kept.check(plan)
            results = batches_again(plan, attacking, frozenset(chosen), kept)
    except (CannotVerifyError, ArchiveError):
        raise
    except GauntletError as error:
        raise cannot(f"it does not run: {error.short}", error.fix) from error
    except ANYTHING as error:
        raise cannot(raised("method", error, outcome.cell.method).came, "look at the method's code") from error
    again = {s.id: s for result in results for s in result.samples}
    differences = [*impossible(doubts(outcome, here)), *_differences(recorded, again, chosen)]
    if len(chosen) == outcome.n and kept is None:
        differences += _indicators(outcome, results)
    return Verification(
        by=by, made=datetime.now(UTC).replace(microsecond=0), seed=seed, chosen=tuple(chosen), of=outcome.n,
        differences=tuple(differences), bits_digest=outcome.bits_digest, code_digest=cell.code_digest,
        method_digest=cell.method_digest, device=device_name(device), versions=dict(versions_here()),
        source="recomputed" if kept is None else "archive",
    )  # fmt: skip


def _plan(outcome: Outcome, here: KnownHere, device: str) -> CellPlan:
    cell = outcome.cell
    chosen = here.method(cell.method)
    if chosen is None:
        raise cannot(f"method {cell.method!r} is not known here", "give its file: --method path/to/file.py:Class")
    return CellPlan(
        chosen, cell.backbone, cell.dataset, cell.protocol, cell.limit, cell.seed, device, outcome.provenance.batch_size
    )


def _check_same(outcome: Outcome, here: Cell) -> None:
    """Raises CannotVerifyError unless the cell as it is here is the outcome's."""
    names = {**DIGESTS, "dataset_digest": "data", "prompts_digest": "prompts", "batch_size": "batch size"}
    if others := [words for name, words in names.items() if getattr(here, name) != getattr(outcome.cell, name)]:
        raise cannot(f"it was made with another {', another '.join(others)}", "check out the code that made it")
    if files := moved(outcome.provenance.files):
        raise cannot(f"it was made with another {', another '.join(files)}", "restore the files that it was made with")
    if here.key != outcome.key:
        raise cannot("its cell is another one here", "check out the code that made it")


def cannot(came: str, fix: str) -> CannotVerifyError:
    """The error that says why."""
    return CannotVerifyError(
        f"cannot verify here: {came}", expected="the method, weights, data and code that made the outcome",
        where="gauntlet verify", fix=fix,
    )  # fmt: skip


def impossible(found: Sequence[Doubt]) -> Iterator[Difference]:
    """What contradicts the data and the protocol as they are here, before anything is computed."""
    for doubt in found:
        if doubt.kind in ("impossible", "incomplete"):
            yield Difference(sample="", field="record", recorded=doubt.meaning, recomputed="no run gives this")


def _differences(
    recorded: Mapping[str, Sample], again: Mapping[str, Sample], chosen: Sequence[str]
) -> Iterator[Difference]:
    for name in chosen:
        if name not in again:
            yield Difference(sample=name, field="id", recorded=name, recomputed="the data set has no such sample")
            continue
        for field in FIELDS:
            old, new = getattr(recorded[name], field), getattr(again[name], field)
            if old != new:
                yield Difference(sample=name, field=field, recorded=str(old), recomputed=str(new))


def _indicators(outcome: Outcome, results: Sequence[BatchResult]) -> Iterator[Difference]:
    """Indicators come out of whole cells only. Values may differ in their last digits between processors."""
    found = {i.name: i for i in outcome.indicators}
    for ours in indicators_of(outcome.cell.protocol, results, draws=outcome.draws):
        theirs = found.get(ours.name)
        if theirs is None:
            yield Difference(sample="", field=ours.name, recorded="missing", recomputed=f"{ours.value:g}")
        elif theirs.fired != ours.fired and not isclose(theirs.value, ours.value, rel_tol=1e-2, abs_tol=1e-6):
            old, new = (f"{'fired' if i.fired else 'quiet'} at {i.value:g}" for i in (theirs, ours))
            yield Difference(sample="", field=ours.name, recorded=old, recomputed=new)


def escape_probability(n: int, k: int, changed: int) -> float:
    """The chance that k samples of n, chosen at random, miss all of those that were changed."""
    return comb(n - changed, k) / comb(n, k) if changed <= n - k else 0.0
