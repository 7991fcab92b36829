"""Retrieval from a name to a file: attacks hurt a trained model, and nothing depends on batches or on a second run."""

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from vlm_gauntlet import fixtures
from vlm_gauntlet.attacks.multimodal.pairs import attack_pairs
from vlm_gauntlet.attacks.multimodal.recipes import RECIPES
from vlm_gauntlet.attacks.text.rules import WordSwap
from vlm_gauntlet.cli.main import app
from vlm_gauntlet.fixtures.errors import GauntletError
from vlm_gauntlet.suites import retrieval
from vlm_gauntlet.suites.recall import KS, ranks
from vlm_gauntlet.suites.retrieval import Setting, run_retrieval
from vlm_gauntlet.suites.retrieval_records import RetrievalJournal, RetrievalOutcome

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
    assert files(tmp_path / "whole") == [f"{whole.key}.json"]


def files(folder: Path) -> list[str]:
    return [p.name for p in (folder / "retrieval").iterdir() if p.is_file()]


def killed(setting: Setting, folder: Path, images: int) -> Path:
    """Runs until so many images are done, is killed in the progress callback, and leaves its partial log."""

    def kill(done: int, in_all: int) -> None:
        if done == images:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_retrieval(setting, folder, progress=kill)
    (partial,) = (folder / "retrieval").glob("*.partial.jsonl")
    return partial


def test_a_killed_run_goes_on_to_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    setting = replace(SETTING, limit=3, batch_size=1)
    undisturbed = run_retrieval(setting, tmp_path / "whole")
    partial = killed(setting, tmp_path / "killed", images=2)
    partial.write_bytes(partial.read_bytes() + b'{"ids": [')  # the kill came in the middle of a write
    ran, seen = [], []

    def counting(*arguments: object, **more: object) -> object:
        ran.append(arguments)
        return attack_pairs(*arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(retrieval, "attack_pairs", counting)
    resumed = run_retrieval(setting, tmp_path / "killed", progress=lambda done, in_all: seen.append((done, in_all)))
    assert len(ran) == 1 and seen == [(1, 3), (2, 3), (3, 3)]
    assert resumed.model_dump(exclude={"provenance"}) == undisturbed.model_dump(exclude={"provenance"})
    assert files(tmp_path / "killed") == [f"{resumed.key}.json"]


def test_features_in_the_log_are_exact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranks are coarse: the numbers behind them come back from the file to the last bit."""
    seen: list[torch.Tensor] = []
    monkeypatch.setattr(
        retrieval, "ranks", lambda similarity, owner: seen.append(similarity) or ranks(similarity, owner)
    )
    setting = replace(SETTING, attack="sep", limit=2, batch_size=1)
    run_retrieval(setting, tmp_path / "whole")
    killed(setting, tmp_path / "killed", images=1)
    run_retrieval(setting, tmp_path / "killed")
    whole, resumed = seen[:2], seen[2:]
    assert all(torch.equal(one, other) for one, other in zip(whole, resumed, strict=True))


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1), (1, 3)])
def test_another_batch_size_cannot_go_on(before: int, after: int, tmp_path: Path) -> None:
    setting = replace(SETTING, attack="sep", limit=3, batch_size=before)
    partial = killed(setting, tmp_path, images=before)
    kept = partial.read_bytes()
    with pytest.raises(GauntletError, match=f"batches of {after}") as error:
        run_retrieval(replace(setting, batch_size=after), tmp_path)
    assert str(partial) in str(error.value) and partial.read_bytes() == kept


def test_a_lying_or_alien_file_is_named(found: RetrievalOutcome, tmp_path: Path) -> None:
    journal = RetrievalJournal(tmp_path)
    journal.write(found)
    assert journal.outcomes() == [found]
    whole = found.model_dump_json()
    for text, said in (
        (whole[:100], "EOF"),
        (whole.replace('"seed":0', '"seed":7'), "not the digest of the cell"),
        (whole.replace(f'"captions_changed":{found.captions_changed}', '"captions_changed":999'), "captions changed"),
        ('{"samples": []}', "samples"),
    ):
        (journal.folder / "alien.json").write_text(text)
        with pytest.raises(GauntletError, match=r"(?s)a retrieval outcome .*gauntlet schema retrieval") as error:
            journal.outcomes()
        assert "alien.json" in str(error.value) and said in str(error.value)
    assert journal.find(found.key) == found


def test_published_schema_is_current() -> None:
    published = Path(fixtures.__file__).parent / "data" / "retrieval.schema.json"
    assert json.loads(published.read_text()) == RetrievalOutcome.model_json_schema(), (
        "gauntlet schema retrieval > fixtures/data/retrieval.schema.json, and raise schema_version if old ones break"
    )


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
