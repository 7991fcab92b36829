"""The search keeps its budget, its rules and its word; a source that breaks them is caught."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vlm_gauntlet.attacks.text.budget import within
from vlm_gauntlet.attacks.text.objectives import away_from_image, kl, squared
from vlm_gauntlet.attacks.text.rules import WordSwap
from vlm_gauntlet.attacks.text.search import MASK, Attacked, attack_sentence
from vlm_gauntlet.attacks.text.sentence import Sentence
from vlm_gauntlet.attacks.text.sources.characters import Characters
from vlm_gauntlet.attacks.text.stop_words import is_stop_word
from vlm_gauntlet.fixtures.errors import ContractError
from vlm_gauntlet.suites.text_rules import broken_rules

CLASSES = ("cat", "dog", "ship", "ankle boot")
WORDS = ["a", "photo", "of", "the", "This", "dog", "cat", "boot", "ankle", "t-shirt", "small", "ship"]
SENTENCES = st.lists(st.sampled_from(WORDS), max_size=8).map(" ".join)
RULES = st.builds(
    WordSwap,
    source=st.just("characters"),
    candidates=st.integers(1, 12),
    budget=st.integers(1, 3),
    stop_words=st.sampled_from(["case-sensitive", "case-folded"]),
    distance=st.sampled_from(["kl", "squared"]),
    forbid_class_names=st.booleans(),
    max_length=st.integers(1, 9),
)


@dataclass
class Hashed:
    """Features of a sentence as good as random, and always the same; long sentences do not fit."""

    longest: int = 40

    def __call__(self, sentences: Sequence[str]) -> Tensor:
        seeds = [int(hashlib.sha256(s.encode()).hexdigest()[:12], 16) for s in sentences]
        rows = [torch.randn(8, generator=torch.Generator().manual_seed(s), dtype=torch.float64) for s in seeds]
        return torch.nn.functional.normalize(torch.stack(rows), dim=-1)

    def fits(self, sentence: str) -> bool:
        return len(sentence) <= self.longest


@dataclass
class Listed:
    """The same candidates for every word."""

    candidates: list[str]
    digest: str = ""

    def __call__(self, words: Sequence[str], position: int) -> list[str]:
        return [c for c in self.candidates if c != words[position]]


def changed_words(result: Attacked) -> list[int]:
    """Positions where two sentences differ, found without the search's own bookkeeping; `d og` is one word split."""
    before, after = result.before.split(), result.after.split()
    differing, j = [], 0
    for i, word in enumerate(before):
        if j + 1 < len(after) and after[j] + after[j + 1] == word:
            differing, j = [*differing, i], j + 2
        else:
            differing, j = differing + [i] * (after[j] != word), j + 1
    assert j == len(after)
    return differing


@settings(max_examples=150, deadline=None)
@given(SENTENCES, RULES, st.sampled_from([Characters(), Listed(["dog", "photos", "The", "Cats", "boot", "lamp"])]))
def test_the_rules_are_kept(text: str, rules: WordSwap, source: Characters | Listed) -> None:
    reader = Hashed()
    result = attack_sentence(text, reader, source, rules, class_names=CLASSES)
    assert result == attack_sentence(text, reader, source, rules, class_names=CLASSES)
    words = text.split()
    positions = changed_words(result)
    assert positions == sorted(result.positions) and len(positions) <= rules.budget
    assert all(i < rules.max_length and not is_stop_word(words[i], rules.stop_words) for i in positions)
    assert result.objective_after >= result.objective_before
    assert (result.objective_after > result.objective_before) == bool(positions)
    assert reader.fits(result.after) or not positions
    new = {w for w in result.after.split() if w not in words}
    assert not any(is_stop_word(w, rules.stop_words) for w in new if w in {"The", "photos", "Cats", "boot", "lamp"})
    if rules.forbid_class_names:
        for name in ("cat", "dog", "ship"):
            said = [[w.lower().removesuffix("s") for w in t.split()].count(name) for t in (text, result.after)]
            assert said[1] <= said[0]
        assert result.after.count("ankle boot") <= text.count("ankle boot")


@pytest.mark.parametrize("candidate", ["hot dog", "", "d o g", "dog "])
def test_a_source_over_the_budget_is_caught(candidate: str) -> None:
    with pytest.raises(ContractError, match="one word"):
        attack_sentence("a photo of a dog", Hashed(), Listed([candidate]), WordSwap(source="characters"))


AS_CODED = {"split": "spaces", "written": "anything", "combinations": "all", "stop_list": "published"}
CODED = WordSwap(
    source="masked-lm", index_shift="as_coded", stop_words="case-sensitive", forbid_class_names=False, **AS_CODED
)


@pytest.mark.parametrize(
    ("switch", "by_default", "as_coded"),
    [
        ("split", "a boat.", "a boat"),  # the full stop is a part of the word
        ("written", "a boat.", "a big boat."),  # a phrase for one word
        ("combinations", "a boat.", "a raft."),  # the third of two candidates
        ("stop_list", "a used.", "a very."),  # `very` is on our list, `used` on theirs
    ],
)
def test_each_switch_of_the_published_code_changes_one_thing(switch: str, by_default: str, as_coded: str) -> None:
    offered = {"split": ["boat"], "written": ["big boat", "boat"], "combinations": ["boat", "dinghy", "raft"],
               "stop_list": ["very", "used", "boat"]}[switch]  # fmt: skip
    weights = {"big": 0.1, "boat": 0.2, "boat.": 0.2, "raft.": 0.5, "very.": 0.3, "used.": 0.6, "dinghy.": 0.1}
    reader, plain = Weighted({**weights, MASK: 0.1, f"{MASK}.": 0.1}), CODED.model_copy(update=OLD)
    for rules, after in ((plain, by_default), (plain.model_copy(update={switch: AS_CODED[switch]}), as_coded)):
        rules = rules.model_copy(update={"candidates": 2 if switch == "combinations" else 10})
        source = Listed([w for w in offered if rules.written == "anything" or w != "big boat"])
        found = attack_sentence("a ship.", reader, source, rules)
        assert found.after == after
        assert within(found, rules, reader, []) and not broken_rules(found, rules, [])


OLD = {"split": "punctuation-apart", "written": "words", "combinations": "cut", "stop_list": "ours"}


def test_switches_at_their_defaults_leave_no_trace_in_records() -> None:
    """The fields from before them, in their order: keys of retrieval cells digest this text."""
    assert WordSwap(source="characters").model_dump_json() == (
        '{"source":"characters","index_shift":"none","candidates":10,"budget":1,"stop_words":"case-folded",'
        '"distance":"kl","forbid_class_names":true,"max_length":30}'
    )
    assert CODED.model_dump().items() >= AS_CODED.items()
    assert WordSwap.model_validate_json(CODED.model_dump_json()) == CODED
    with pytest.raises(ValueError, match="belong to the source masked-lm"):
        WordSwap(source="characters", written="anything")


@dataclass
class Weighted:
    """Features that turn by the sum of the words' weights: what the search should find is known."""

    weights: dict[str, float]

    def __call__(self, sentences: Sequence[str]) -> Tensor:
        angles = torch.tensor([sum(map(lambda w: self.weights.get(w, 0.0), s.split())) for s in sentences]).double()
        return torch.stack([angles.cos(), angles.sin()], dim=1)

    def fits(self, sentence: str) -> bool:
        return True


@pytest.mark.parametrize("distance", ["kl", "squared"])
def test_the_most_important_word_gets_the_worst_candidate(distance: str) -> None:
    reader = Weighted({"big": 0.1, "dog": 0.5, "low": 0.4, "far": -0.6, "near": 0.45})
    rules = WordSwap(source="characters", distance=distance)
    result = attack_sentence("a big dog", reader, Listed(["low", "far", "near"]), rules)
    assert (result.after, result.positions) == ("a big far", (2,))
    one = WordSwap(source="characters", candidates=1)
    assert attack_sentence("a big dog", reader, Listed(["low", "far"]), one).after == "a big low"


def test_a_word_without_a_better_candidate_passes_the_turn_on() -> None:
    reader = Weighted({"big": 0.1, "dog": 0.5, "hound": 0.5, "wee": 0.3})
    synonyms: dict[str, list[str]] = {"dog": ["hound"], "big": ["wee"]}

    class Synonyms(Listed):
        def __call__(self, words: Sequence[str], position: int) -> list[str]:
            return synonyms.get(words[position], [])

    assert attack_sentence("a big dog", reader, Synonyms([]), WordSwap(source="characters")).after == "a wee dog"


def test_away_from_an_image() -> None:
    reader = Weighted({"dog": 0.5, "cow": 0.9, "owl": -0.3})
    image = torch.tensor([torch.tensor(1.0).cos(), torch.tensor(1.0).sin()])
    rules = WordSwap(source="characters")
    objective = away_from_image(image)
    result = attack_sentence("a dog", reader, Listed(["cow", "owl"]), rules, objective=objective)
    assert result.after == "a owl"  # the drift alone, 0.4 against 0.8, says the same; towards the image it does not:
    assert attack_sentence("a dog", reader, Listed(["cow"]), rules, objective=objective).after == "a dog"
    assert attack_sentence("a dog", reader, Listed(["cow"]), rules).after == "a cow"
    assert result.objective_after == pytest.approx(1 - torch.tensor(1.3).cos().item())


def test_class_names_are_injected_only_where_allowed() -> None:
    def attacked(forbid: bool) -> str:
        rules = WordSwap(source="characters", forbid_class_names=forbid)
        reader = Weighted({"dog": 0.5, "cat": -0.9, "lamp": 0.4})
        return attack_sentence("a dog", reader, Listed(["cat", "lamp"]), rules, class_names=CLASSES).after

    assert (attacked(True), attacked(False)) == ("a lamp", "a cat")


def test_case_of_stop_words() -> None:
    def attacked(case: str) -> tuple[int, ...]:
        reader = Weighted({"This": 0.9, "dog": 0.5})
        rules = WordSwap(source="characters", stop_words=case)
        return attack_sentence("This dog", reader, Listed(["lamp"]), rules).positions

    assert (attacked("case-sensitive"), attacked("case-folded")) == ((0,), (1,))


@pytest.mark.parametrize("text", ["", "...", "a of the"])
def test_nothing_to_attack(text: str) -> None:
    result = attack_sentence(text, Hashed(), Characters(), WordSwap(source="characters"))
    assert (result.after, result.positions, result.objective_after) == (text, (), result.objective_before)


def test_importance_is_measured_with_the_word_written_out_as_unknown() -> None:
    read: list[str] = []

    class Listening(Hashed):
        def __call__(self, sentences: Sequence[str]) -> Tensor:
            read.extend(sentences)
            return super().__call__(sentences)

    attack_sentence("red dog.", Listening(), Listed([]), WordSwap(source="characters"))
    assert read[1:4] == ["red dog.", f"{MASK} dog.", f"red {MASK}."]
    assert Sentence.read("red dog.").text == "red dog."


@pytest.mark.parametrize("measure", [kl, squared])
def test_distances(measure: Callable[[Tensor, Tensor], Tensor]) -> None:
    features = Hashed()(["one", "two", "three"])
    found = measure(features[0], features)
    assert found[0].abs() < 1e-12 and (found[1:] > 0).all()


def test_the_kl_is_the_squared_distance_in_small() -> None:
    """KL = |u - v - mean|^2 / 2N for unit features in many dimensions (measured ratio within 0.3 %)."""
    features = torch.nn.functional.normalize(torch.randn(50, 512, generator=torch.Generator().manual_seed(0)).double())
    moved = features - features[0]
    closed = (moved - moved.mean(1, keepdim=True)).square().sum(1) / (2 * 512)
    torch.testing.assert_close(kl(features[0], features)[1:], closed[1:], rtol=0.02, atol=0)
    furthest = squared(features[0], features).argmax()  # the same word, up to near ties
    assert kl(features[0], features)[furthest] >= 0.98 * kl(features[0], features).max()
