"""Samples that are recomputed come out as they did in their cell, and what was changed differs."""

import errno
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from vlm_gauntlet.attacks.protocols import protocol, varied
from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.datasets import Batch
from vlm_gauntlet.fixtures.errors import GauntletError
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.fixtures.records import Outcome
from vlm_gauntlet.methods.base import Defence
from vlm_gauntlet.methods.registry import Method
from vlm_gauntlet.suites import cells, running, verify
from vlm_gauntlet.suites.batch import Asked, Made
from vlm_gauntlet.suites.cells import CellPlan, plan
from vlm_gauntlet.suites.journal import BatchResult, Journal
from vlm_gauntlet.suites.known_here import KnownHere, expected_ids
from vlm_gauntlet.suites.running import run_cell
from vlm_gauntlet.suites.scoring import Scorer
from vlm_gauntlet.suites.verification_records import add, beside, verifications
from vlm_gauntlet.suites.verify import CannotVerifyError, escape_probability, recompute

from .in_process import stay_here

N = 10


class Exits(Defence):
    """Ends the program."""

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        if len(images) == 1:
            raise SystemExit(0)
        return self.backbone(images, prompts)


@pytest.fixture
def cell(monkeypatch: pytest.MonkeyPatch, tiny_backbone: Backbone) -> CellPlan:
    """A randomised defence under PGD on digits, on a small backbone."""
    monkeypatch.setattr(cells, "load_backbone", lambda name, device: tiny_backbone)
    stay_here(monkeypatch, running, verify)
    (made,) = plan(["rn"], "tiny", ["digits"], ["pgd-10-white-box-linf-8-255"], limit=N, batch_size=4)
    return replace(made, protocol=varied(made.protocol, steps=2))


def lengths(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    seen: list[int] = []
    score = verify.score_batch

    def counting(asked: Asked, batch: Batch, made: Made, scorer: Scorer) -> BatchResult:
        seen.append(len(batch.ids))
        return score(asked, batch, made, scorer)

    monkeypatch.setattr(verify, "score_batch", counting)
    return seen


def test_chosen_samples_alone_come_out_as_among_all(
    cell: CellPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = {s.id: s for s in run_cell(cell, Journal(tmp_path)).samples}
    seen, chosen = lengths(monkeypatch), sorted(recorded)[1::4]
    again = recompute(cell, chosen)
    assert again == {name: recorded[name] for name in chosen} and sum(seen) == len(chosen)


def test_coupled_samples_are_recomputed_with_their_whole_batch(
    cell: CellPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    coupled = replace(cell, protocol=varied(cell.protocol, reduction="mean"))
    outcome = run_cell(coupled, Journal(tmp_path))
    assert outcome.cell.batch_size == 4
    seen, last = lengths(monkeypatch), outcome.samples[-1]
    assert recompute(coupled, {outcome.samples[0].id, last.id}) == {s.id: s for s in (outcome.samples[0], last)}
    assert seen == [4, 2]


@pytest.fixture(scope="module")
def genuine(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    (made,) = plan(["rn"], "miniclip-vit", ["digits"], ["pgd-10-white-box-linf-8-255"], limit=4)
    return run_cell(made, Journal(tmp_path_factory.mktemp("o")))


def test_a_randomised_outcome_is_verified_with_its_indicators(genuine: Outcome) -> None:
    made = verify.verify(genuine, KnownHere(), samples=99, by="me")
    assert (
        made.result == "verified"
        and made.words == "verified 4 of 4"
        and set(made.chosen) == {s.id for s in genuine.samples}
    )


def test_samples_are_the_verifiers_choice(genuine: Outcome) -> None:
    looks = [verify.verify(genuine, KnownHere(), samples=1, seed=seed).chosen for seed in (0, 0, 1, 2)]
    assert looks[0] == looks[1] and len(set(looks)) > 1
    assert verify.verify(genuine, KnownHere(), samples=1).seed > 9, "nobody knows it before"


def test_a_defence_that_ends_the_program_is_beyond_verifying(
    cell: CellPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strange = replace(cell, method=Method("mine.py:Exits", Exits), protocol=protocol("clean"))
    outcome = run_cell(strange, Journal(tmp_path))
    here = KnownHere()
    monkeypatch.setattr(here, "method", lambda label: strange.method if label == "Exits" else None)
    with pytest.raises(CannotVerifyError, match="ends the program"):
        verify.verify(outcome, here, samples=1)


def test_records_of_verifications_add_up_and_a_full_disk_is_one_clear_error(
    genuine: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = verify.verify(genuine, KnownHere(), samples=2, seed=3)
    for _ in range(2):
        add(tmp_path, genuine.key, made)
    assert verifications(tmp_path, genuine) == ((made, made), None)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = beside(tmp_path, genuine.key).read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(GauntletError, match="cannot be written: No space left"):
            add(tmp_path, genuine.key, made)
    assert beside(tmp_path, genuine.key).read_bytes() == before
    record = json.loads(before)
    record["key"] = "another"
    beside(tmp_path, genuine.key).write_text(json.dumps(record))
    found, unreadable = verifications(tmp_path, genuine)
    assert found == () and unreadable and "it speaks of another" in unreadable.reason


def test_how_often_a_few_changed_samples_are_missed() -> None:
    drawn = torch.rand(20_000, 20, generator=torch.Generator().manual_seed(0)).argsort(1)[:, :5]
    assert escape_probability(20, 5, 3) == pytest.approx(float((drawn > 2).all(1).float().mean()), abs=0.02)
    assert escape_probability(4, 4, 1) == 0 and escape_probability(4, 1, 4) == 0


def test_expected_ids_are_those_that_a_run_takes(cell: CellPlan, tmp_path: Path) -> None:
    outcome = run_cell(replace(cell, protocol=protocol("clean")), Journal(tmp_path))
    assert expected_ids(cell.load().data, N) == {s.id: s.label for s in outcome.samples}
