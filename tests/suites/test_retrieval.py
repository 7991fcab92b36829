"""Retrieval from a name to a file: attacks hurt a trained model, and nothing depends on batches or on a second run."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from vlm_gauntlet.attacks.multimodal.recipes import RECIPES
from vlm_gauntlet.cli.main import app
from vlm_gauntlet.fixtures.errors import GauntletError
from vlm_gauntlet.fixtures.protocols import WordSwap
from vlm_gauntlet.suites import retrieval
from vlm_gauntlet.suites.recall import KS
from vlm_gauntlet.suites.retrieval import RetrievalOutcome, Setting, run_retrieval

RULES = WordSwap(source="characters", candidates=3)
SETTING = Setting("undefended", "miniclip-vit", "emoji_captions", "sga", Fraction(2, 255), RULES, limit=4, batch_size=4)


@pytest.fixture(scope="module", params=RECIPES)
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> RetrievalOutcome:
    """Each attack on the first images of the embedded set."""
    return run_retrieval(replace(SETTING, attack=request.param), tmp_path_factory.mktemp("outcomes"))


def test_attacks_hurt_a_trained_model(found: RetrievalOutcome) -> None:
    for way in (found.image_to_text, found.text_to_image):
        assert all(way.attacked_recall(k) <= way.clean_recall(k) for k in KS)
        assert way.clean_recall(1) > way.attacked_recall(1)
    assert (found.image_to_text.n, found.captions_changed > 0) == (4, True)


def test_batches_change_nothing_and_the_file_is_taken_the_second_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = replace(SETTING, limit=2)
    state = torch.get_rng_state()
    whole = run_retrieval(small, tmp_path / "whole")
    parts = run_retrieval(replace(small, batch_size=1), tmp_path / "parts")
    assert torch.equal(torch.get_rng_state(), state)
    assert whole.model_dump(exclude={"provenance"}) == parts.model_dump(exclude={"provenance"})
    monkeypatch.setattr(retrieval, "attack_pairs", None)
    assert run_retrieval(small, tmp_path / "whole") == whole
    assert [p.name for p in (tmp_path / "whole" / "retrieval").iterdir()] == [f"{whole.key}.json"]


def test_a_tuned_tower_is_another_cell(tmp_path: Path) -> None:
    tuned = run_retrieval(replace(SETTING, method="tecoa", attack="sep", limit=2), tmp_path)
    own = run_retrieval(replace(SETTING, attack="sep", limit=2), tmp_path)
    assert tuned.cell.method == "tecoa" and tuned.key != own.key


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dataset": "digits"}, "'digits' is a classification set"),
        ({"method": "ttc"}, "ttc is more than a tower"),
        ({"attack": "sgaa"}, "did you mean sga"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(change: dict[str, str], message: str, tmp_path: Path) -> None:
    with pytest.raises(GauntletError, match=message):
        run_retrieval(replace(SETTING, **change), tmp_path)  # type: ignore[arg-type]


def test_the_command_prints_numbers_and_what_they_mean(tmp_path: Path) -> None:
    run = CliRunner().invoke(app, ["retrieval", "--attack", "sep", "--limit", "2", "--outcomes", str(tmp_path)])
    assert run.exit_code == 0, run.output
    assert all(word in run.stdout for word in ("image to text", "text to image", "R@10", "drop:", "lost:"))
    bad = CliRunner().invoke(app, ["retrieval", "--attack", "sep", "--eps", "two", "--outcomes", str(tmp_path)])
    assert bad.exit_code == 2
