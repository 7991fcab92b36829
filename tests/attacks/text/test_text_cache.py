"""Attacked prompts on disk: found again, and made again where they do not hold."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from vlm_gauntlet.attacks.text.budget import within
from vlm_gauntlet.attacks.text.cache import cached, folder, searching_again
from vlm_gauntlet.attacks.text.objectives import DISTANCES
from vlm_gauntlet.attacks.text.prompts import attack_sentences
from vlm_gauntlet.attacks.text.reader import TextTower
from vlm_gauntlet.attacks.text.rules import WordSwap
from vlm_gauntlet.attacks.text.search import Attacked
from vlm_gauntlet.attacks.text.sources.characters import Characters
from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.prompts import PromptSet

RULES = WordSwap(source="characters")


def _spoilt(text: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> str:
    """The file with one sentence otherwise."""
    record = json.loads(text)
    first = next(i for i, s in enumerate(record["sentences"]) if s["positions"])
    record["sentences"][first] = change(record["sentences"][first])
    return json.dumps(record)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return folder()


@pytest.fixture
def keep(tiny_backbone: Backbone, prompts: PromptSet, cache: Path) -> Callable[..., tuple[tuple[Attacked, ...], int]]:
    """Keeps the attacked prompts; says what came back, and whether it was searched for."""
    searched: list[int] = []

    def search(texts: Sequence[str], rules: WordSwap) -> Sequence[Attacked]:
        searched.append(len(texts) == len(prompts))
        return attack_sentences(texts, tiny_backbone, prompts, rules, Characters())

    def run(rules: WordSwap = RULES) -> tuple[tuple[Attacked, ...], int]:
        searched.clear()
        return cached(tiny_backbone, prompts, rules, Characters(), lambda texts: search(texts, rules)), sum(searched)

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
        lambda text: (
            text.replace('"asked":[', '"asked":["x",')
            if '"asked":[' in text
            else text.replace('"asked": [', '"asked": ["x",')
        ),  # what another question found
        lambda text: _spoilt(text, lambda s: {**s, "after": s["before"], "positions": [], "objective_after": 0.0}),
        lambda text: _spoilt(text, lambda s: {**s, "positions": [1, 2, 3]}),  # over the budget, it says
        lambda text: _spoilt(text, lambda s: {**s, "positions": []}),  # changed, and says that it is not
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


def test_a_weaker_sentence_is_found_by_who_searches_again(
    keep: Callable[..., tuple[tuple[Attacked, ...], int]], cache: Path, tiny_backbone: Backbone, prompts: PromptSet
) -> None:
    """All sentences changed, one of them less well than it could be, and its objective told rightly."""
    first, _ = keep()
    (path,) = cache.iterdir()
    reader, distance = TextTower(tiny_backbone), DISTANCES[RULES.distance]
    record = json.loads(path.read_text())
    for sentence in record["sentences"]:
        before, after = reader([sentence["before"], sentence["before"].replace("photo", "phot0")])
        weaker = float(distance(before, after[None])[0])
        if sentence["positions"] and weaker < 0.5 * sentence["objective_after"]:
            sentence |= {"after": sentence["before"].replace("photo", "phot0"), "positions": [1],
                         "objective_after": weaker}  # fmt: skip
            break
    else:
        pytest.fail("no sentence could be made weaker")
    path.write_text(json.dumps(record))
    with searching_again():
        found, _ = keep()
    assert found == first


def test_two_words_are_more_than_a_budget_of_one(tiny_backbone: Backbone) -> None:
    found = Attacked("a photo of a cat.", "a ph0to of a c4t.", (1, 4), 0.0, 1.0)
    reader, two = TextTower(tiny_backbone), RULES.model_copy(update={"budget": 2})
    assert within(found, two, reader, ["dog"]) and not within(found, RULES, reader, ["dog"])
