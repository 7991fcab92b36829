"""A worker is killed in a night, a repository of the hub was cut in the middle: it goes on, and loses no more."""

import os
import signal
from pathlib import Path

import pytest
from huggingface_hub import constants

from tests.fixtures.hub_maker import in_cache
from vlm_gauntlet.fixtures import natural_sets as module
from vlm_gauntlet.fixtures.datasets import is_reachable
from vlm_gauntlet.fixtures.hub import ALLOW
from vlm_gauntlet.fixtures.natural_sets import natural_sets
from vlm_gauntlet.suites import running, witness
from vlm_gauntlet.suites.cells import plan
from vlm_gauntlet.suites.engines.local import run_cells
from vlm_gauntlet.suites.journal import Journal

from .in_process import stay_here

BATCH = 2


def bits(journal: Journal) -> dict[str, str]:
    return {o.key: o.bits_digest for o in journal.outcomes()}


def test_a_killed_worker_costs_its_batch_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = plan(
        ["rn", "undefended"], "miniclip-vit", ["digits"], ["fgsm-white-box-linf-8-255"], limit=3 * BATCH,
        batch_size=BATCH,
    )  # fmt: skip
    journal, killed, score = Journal(tmp_path / "night"), [], witness.Witness.score

    def kill(self: witness.Witness, *question: object) -> object:
        if not killed and any((tmp_path / "night").glob("*.partial.jsonl")):
            process = self._apart._process.pid
            assert process not in (None, os.getpid())
            killed.append(process)
            os.kill(process, signal.SIGKILL)
        return score(self, *question)  # type: ignore[arg-type]

    monkeypatch.setattr(witness.Witness, "score", kill)
    failed, other = run_cells(asked, journal)
    assert (failed.word, other.word) == ("failed", "ran") and "killed by signal 9" in failed.reason
    assert other.outcome is not None and bits(journal).keys() == {other.outcome.key}
    (partial,) = (tmp_path / "night").glob("*.partial.jsonl")
    (acknowledged,) = partial.read_bytes().splitlines()
    monkeypatch.setattr(witness.Witness, "score", score)
    attacked: list[object] = []
    attack = running.score_batch
    monkeypatch.setattr(running, "score_batch", lambda *a, **k: (attacked.append(a[1].ids), attack(*a, **k))[1])
    again = run_cells(asked, journal)
    assert [end.word for end in again] == ["ran", "taken"] and acknowledged and len(attacked) == 2
    monkeypatch.setattr(running, "score_batch", attack)
    run_cells(asked, Journal(tmp_path / "undisturbed"))
    assert bits(journal) == bits(Journal(tmp_path / "undisturbed"))


def test_a_repository_cut_in_the_middle_costs_its_cells_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GAUNTLET_DATA", str(tmp_path / "root"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv(ALLOW, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    small = {name: each.model_copy(update={"samples": 4, "classes": 2}) for name, each in natural_sets().items()}
    monkeypatch.setattr(module, "natural_sets", lambda: small)
    for other in ("data_expected", "datasets"):
        monkeypatch.setattr(f"vlm_gauntlet.fixtures.{other}.natural_sets", lambda: small)
    whole, cut, none = "stl10", "cifar10", "food101"
    for name in (whole, cut):
        in_cache(tmp_path / "hub", name, samples=4, classes=2)
    shard = next((tmp_path / "hub").glob("*cifar10*/snapshots/*/test/1.tar"))
    shard.write_bytes(shard.read_bytes()[:700])  # the hub went away while it was fetched
    stay_here(monkeypatch, running)
    asked = [
        cell
        for name in (cut, none, whole)
        for cell in plan(["undefended"], "miniclip-vit", [name], ["clean"], limit=4, batch_size=BATCH)
    ]
    assert [is_reachable(name) for name in (cut, none, whole)] == [True, False, True]
    journal = Journal(tmp_path / "night")
    ends = {end.key.split("-")[3]: end for end in run_cells(asked, journal)}
    assert {name: end.word for name, end in ends.items()} == {cut: "failed", none: "not run", whole: "ran"}
    assert "1.tar" in ends[cut].reason and "gauntlet data get food101" in ends[none].reason
    assert len(bits(journal)) == 1
