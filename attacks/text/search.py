"""The search: words in order of importance, for each the candidate that hurts most, until the budget is spent.

Source: BERT-Attack (Li et al. 2020, arXiv:2004.09984), as Co-Attack (Zhang et al. 2022, arXiv:2206.09391) and SGA
(Lu et al. 2023, arXiv:2307.14061) adapt it to CLIP: importance and choice by features instead of class probabilities.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from vlm_gauntlet.attacks.text.rules import WordSwap
from vlm_gauntlet.fixtures.errors import ContractError

from .objectives import DISTANCES, Objective
from .reader import Reader
from .sentence import Sentence, injected_names, is_one_word
from .sources.base import Source
from .stop_words import is_stop_word

MASK = "[UNK]"  # written out as a word; the text tower has no such token


@dataclass(frozen=True)
class Attacked:
    """A sentence before and after, the changed positions, and the objective at both."""

    before: str
    after: str
    positions: tuple[int, ...]
    objective_before: float
    objective_after: float


def attack_sentence(
    text: str,
    reader: Reader,
    source: Source,
    rules: WordSwap,
    *,
    class_names: Sequence[str] = (),
    objective: Objective | None = None,
) -> Attacked:
    """Attacks one sentence.

    Args:
        text: the sentence.
        reader: the text tower.
        source: candidates for a word.
        rules: budget and switches.
        class_names: what may not be written into the sentence, if the rules forbid it.
        objective: what to maximise; default: the distance to the clean sentence. What comes back is
            never below the clean sentence's own value.

    Raises:
        ContractError: the source gave something that is not one word, where nothing else may be written.
    """
    sentence = clean = Sentence.read(text, rules.split)
    origin = reader([text])[0]
    distance = DISTANCES[rules.distance]
    score = objective or (lambda features: distance(origin, features))
    first = value = float(score(origin[None])[0])
    changed: list[int] = []
    for position in _by_importance(clean, reader, rules):
        if len(changed) == rules.budget:
            break
        swaps = _allowed(sentence, position, reader, source, rules, class_names)
        if not swaps:
            continue
        scores = score(reader([s.text for s in swaps])).tolist()
        best = max(range(len(swaps)), key=lambda i: scores[i])
        if scores[best] > value:  # the word itself is the first candidate: without a better one the next word's turn
            sentence, value = swaps[best], scores[best]
            changed.append(position)
    return Attacked(text, sentence.text, tuple(changed), first, value)


def _by_importance(sentence: Sentence, reader: Reader, rules: WordSwap) -> list[int]:
    """Positions that may be attacked; first those without whose word the features go furthest."""
    if not sentence.words:
        return []
    features = reader([sentence.text, *(sentence.swapped(i, MASK).text for i in range(len(sentence.words)))])
    moved = DISTANCES[rules.distance](features[0], features[1:]).tolist()
    order = sorted(range(len(moved)), key=lambda i: -moved[i])
    return [i for i in order if i < rules.max_length and not _left_alone(sentence.words[i], rules)]


def _left_alone(word: str, rules: WordSwap) -> bool:
    return is_stop_word(word, rules.stop_words, rules.stop_list)


def _allowed(
    sentence: Sentence, position: int, reader: Reader, source: Source, rules: WordSwap, class_names: Sequence[str]
) -> list[Sentence]:
    """The sentence with each candidate in place that the rules allow."""
    word, found = sentence.words[position], []
    offered = source(sentence.words, position)
    for candidate in offered[: rules.candidates] if rules.combinations == "cut" else offered:
        if rules.written == "words" and not is_one_word(candidate, word):
            raise ContractError(
                f"candidate {candidate!r} for the word {word!r}", expected="one word, or this one split by a space",
                where=type(source).__name__, fix="a source gives words; longer phrases are over the budget",
            )  # fmt: skip
        swap = sentence.swapped(position, candidate)
        banned = rules.forbid_class_names and injected_names(sentence.text, swap.text, class_names)
        if candidate != word and not _left_alone(candidate, rules) and not banned and reader.fits(swap.text):
            found.append(swap)
    return found
