"""What a text attack may do, judged from the two sentences alone and not from the attack's own bookkeeping."""

import re
from collections.abc import Iterator, Sequence
from itertools import combinations

from vlm_gauntlet.attacks.text.rules import WordSwap
from vlm_gauntlet.attacks.text.search import Attacked
from vlm_gauntlet.attacks.text.sentence import Sentence, injected_names
from vlm_gauntlet.attacks.text.stop_words import is_stop_word


def broken_rules(result: Attacked, rules: WordSwap, class_names: Sequence[str]) -> list[str]:
    """Names of the rules that the sentence broke: `budget`, `place`, `stop word`, `class name`, `objective`.

    Args:
        result: the sentence before and after.
        rules: what was allowed.
        class_names: what may not be written in, if the rules forbid it.
    """
    broken = ["budget"]
    for reading in _readings(result, rules):
        broken = _misplaced(reading, Sentence.read(result.before, rules.split).words, rules)
        if not broken:
            break
    if rules.forbid_class_names and injected_names(result.before, result.after, class_names):
        broken.append("class name")
    if result.objective_after < result.objective_before:
        broken.append("objective")
    return broken


def _readings(result: Attacked, rules: WordSwap) -> Iterator[dict[int, str]]:
    """Every way to read `after` as `before` with new words within the budget: their places and the words, few first."""
    sentence = Sentence.read(result.before, rules.split)
    any_word = _any_word if rules.written == "words" else _anything
    for count in range(min(rules.budget, len(sentence.words)) + 1):
        for chosen in combinations(range(len(sentence.words)), count):
            parts = [re.escape(sentence.gaps[0])]
            for i, (word, gap) in enumerate(zip(sentence.words, sentence.gaps[1:], strict=True)):
                parts += [any_word(word, result.after) if i in chosen else re.escape(word), re.escape(gap)]
            if match := re.fullmatch("".join(parts), result.after):
                yield dict(zip(chosen, match.groups(), strict=True))


def _any_word(word: str, text: str) -> str:
    """Pattern of one word in another's place, or of the two halves of that other: one word split counts as one."""
    halves = (f"{word[:k]} {word[k:]}" for k in range(1, len(word)))
    return "(" + "|".join([r"\S+", *(re.escape(pair) for pair in halves if pair in text)]) + ")"


def _anything(word: str, text: str) -> str:
    """Pattern of a phrase, which published code counts as one new word."""
    return "(.+)"


def _misplaced(reading: dict[int, str], words: Sequence[str], rules: WordSwap) -> list[str]:
    """What is wrong with new words at these places."""
    touched = [*reading.values(), *(words[i] for i in reading)]
    places = ["place"] * any(i >= rules.max_length for i in reading)
    return places + ["stop word"] * any(is_stop_word(word, rules.stop_words, rules.stop_list) for word in touched)
