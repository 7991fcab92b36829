"""Clean images are asked about once for all cells of a run that ask the same; no other question gets that answer."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from torch import Tensor

from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.fixtures.records import Outcome
from vlm_gauntlet.suites import clean_answers, running
from vlm_gauntlet.suites.cells import CellPlan, plan
from vlm_gauntlet.suites.clean_answers import CleanAnswers
from vlm_gauntlet.suites.journal import Journal
from vlm_gauntlet.suites.running import run_cell
from vlm_gauntlet.suites.scoring import Answers, InProcess

from .in_process import stay_here

N = 4


def cell(method: str = "rn", attack: str = "fgsm-white-box-linf-16-255", dataset: str = "digits") -> CellPlan:
    """A small cell on the embedded ViT, in two batches."""
    (made,) = plan([method], "miniclip-vit", [dataset], [attack], limit=N, batch_size=3)
    return made


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of images of each question to a defence in this process, which scores instead of a witness."""
    numbers: list[int] = []
    score = InProcess.score

    def counting(
        self: InProcess, images: Tensor, prompts: PromptSet, keys: Sequence[int], calls: Sequence[int]
    ) -> Answers:
        numbers.append(len(images) * len(calls))
        return score(self, images, prompts, keys, calls)

    monkeypatch.setattr(InProcess, "score", counting)
    stay_here(monkeypatch, running)
    return numbers


def comparable(outcome: Outcome) -> object:
    """All but the clock, and what a replay on secret draws measures."""
    left_out = {"provenance": True, "attack_cost": {"seconds"}, "defence_cost": {"seconds"}, "indicators": True}
    return outcome.model_dump(exclude=left_out), [(i.name, i.fired) for i in outcome.indicators]


@pytest.mark.parametrize("method", ["undefended", "rn", "tecoa"])
def test_no_bit_moves(method: str, tmp_path: Path) -> None:
    clean, attacks = CleanAnswers(), ("clean", "fgsm-white-box-linf-16-255", "pgd-2-white-box-linf-16-255")
    for attack in attacks:
        apart = run_cell(cell(method, attack), Journal(tmp_path / "apart"))
        beside = run_cell(cell(method, attack), Journal(tmp_path / "beside"), clean=clean)
        assert comparable(apart) == comparable(beside)
    assert len(clean.kept) == 2, "one answer a batch"


def test_the_second_cell_does_not_ask_again(asked: list[int], tmp_path: Path) -> None:
    clean, questions = CleanAnswers(), []
    for name, attack, shared in (("a", "fgsm", clean), ("a", "pgd-2", clean), ("b", "pgd-2", None)):
        asked.clear()
        run_cell(cell(attack=f"{attack}-white-box-linf-16-255"), Journal(tmp_path / name), clean=shared)
        questions.append([number for number in asked if number % 5 == 0])  # five draws of each image; replays ask once
    attacked, replayed, clean_images = [15, 5], [15, 5], [15, 5]
    assert sorted(questions[0]) == sorted(attacked + replayed + clean_images)
    assert sorted(questions[1]) == sorted(attacked + replayed)
    assert sorted(questions[2]) == sorted(questions[0])


@pytest.mark.parametrize(
    "other",
    [
        lambda: cell("ttc"),
        lambda: cell(dataset="fashion_mnist"),
        lambda: replace(cell(), seed=1),
        lambda: replace(cell(), batch_size=2),
        lambda: replace(cell(), limit=3),
    ],
    ids=["method", "data", "seed", "batches", "fewer"],
)
def test_another_question_is_asked(other: Callable[[], CellPlan], tmp_path: Path) -> None:
    clean = CleanAnswers()
    run_cell(cell(), Journal(tmp_path / "first"), clean=clean)
    known = len(clean.kept)
    beside = run_cell(other(), Journal(tmp_path / "beside"), clean=clean)
    assert comparable(beside) == comparable(run_cell(other(), Journal(tmp_path / "apart")))
    new = len(clean.kept) - known
    assert new == (0 if other().limit == 3 else 2), "three samples alone are the first cell's first batch"


def test_a_defence_from_outside_is_asked_in_every_cell(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(MINE)
    clean = CleanAnswers()
    run_cell(cell(f"{path}:Mine"), Journal(tmp_path / "o"), clean=clean)
    assert not clean.kept


def test_it_forgets_the_oldest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(clean_answers, "MOST", 1)
    clean = CleanAnswers()
    outcome = run_cell(cell(), Journal(tmp_path), clean=clean)
    assert outcome.n == N and len(clean.kept) == 1


MINE = """
from vlm_gauntlet.methods.base import Defence

class Mine(Defence):
    def forward(self, images, prompts):
        return self.backbone(images, prompts)
"""
