"""Attacked prompts on disk: found again, and made again where they do not hold."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from vlm_gauntlet.attacks.text.cache import cached, folder
from vlm_gauntlet.attacks.text.prompts import attack_prompts
from vlm_gauntlet.attacks.text.rules import WordSwap
from vlm_gauntlet.attacks.text.search import Attacked
from vlm_gauntlet.attacks.text.sources.characters import Characters
from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.prompts import PromptSet

RULES = WordSwap(source="characters")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return folder()


@pytest.fixture
def keep(tiny_backbone: Backbone, prompts: PromptSet, cache: Path) -> Callable[..., tuple[tuple[Attacked, ...], int]]:
    """Keeps the attacked prompts; says what came back, and whether it was searched for."""
    searched: list[int] = []

    def search(rules: WordSwap) -> Sequence[Attacked]:
        searched.append(1)
        return attack_prompts(tiny_backbone, prompts, rules, Characters()).sentences

    def run(rules: WordSwap = RULES) -> tuple[tuple[Attacked, ...], int]:
        searched.clear()
        return cached(tiny_backbone, prompts, rules, Characters(), lambda: search(rules)), len(searched)

    return run


def test_the_same_question_is_searched_for_once(keep: Callable[..., tuple[object, int]], cache: Path) -> None:
    (first, made), (second, again) = keep(), keep()
    assert first == second and (made, again) == (1, 0)
    assert keep(RULES.model_copy(update={"budget": 2}))[1] == 1
    assert len([*cache.iterdir()]) == 2


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "[]",
        lambda text: text.replace("objective_after", "objective"),
        lambda text: text.replace('"objective_after": ', '"objective_after": 1'),  # another tower's
        lambda text: text.replace("a photo of a cat", "a photo of a dog"),
    ],
)
def test_what_does_not_hold_is_made_again(
    keep: Callable[..., tuple[object, int]], cache: Path, spoil: Callable[[str], str]
) -> None:
    first, _ = keep()
    (path,) = cache.iterdir()
    good = path.read_text()
    path.write_text(spoil(good))
    assert path.read_text() != good
    assert keep() == (first, 1)
    assert path.read_text() == good


def test_a_cache_that_cannot_be_written_costs_time_alone(keep: Callable[..., tuple[object, int]], cache: Path) -> None:
    cache.parent.write_bytes(b"a file where the folder should be")
    (first, made), (second, again) = keep(), keep()
    assert first == second and (made, again) == (1, 1)
