"""Whether an attacked sentence that somebody hands in lies within the rules, judged from its words."""

import re
from collections.abc import Sequence

from .reader import Reader
from .rules import WordSwap
from .search import Attacked
from .sentence import Sentence, injected_names
from .stop_words import is_stop_word


def within(found: Attacked, rules: WordSwap, reader: Reader, class_names: Sequence[str]) -> bool:
    """Whether a sentence differs from the clean one in the words that it names alone, and these were free to change.

    Args:
        found: sentence before and after.
        rules: budget and switches.
        reader: whose tokenizer must take in the whole sentence.
        class_names: what may not be written in, if the rules forbid it.
    """
    places, words = found.positions, Sentence.read(found.before, rules.split).words
    if len(set(places)) != len(places) or len(places) > rules.budget:
        return False
    if not all(0 <= i < min(len(words), rules.max_length) for i in places):
        return False
    if not places:
        return found.after == found.before
    match = re.fullmatch(_pattern(found, rules), found.after)
    if match is None or not reader.fits(found.after):
        return False
    touched = [*(words[i] for i in places), *match.groups()]
    if any(is_stop_word(word, rules.stop_words, rules.stop_list) for word in touched):
        return False
    return not (rules.forbid_class_names and injected_names(found.before, found.after, class_names))


def _pattern(found: Attacked, rules: WordSwap) -> str:
    """The clean sentence, with any one word, or the word in two halves, where a position was changed.

    Where the rules let anything be written, a phrase stands for one word, as published code counts it.
    """
    sentence = Sentence.read(found.before, rules.split)
    written = r"\S+" if rules.written == "words" else ".+"
    parts = [re.escape(sentence.gaps[0])]
    for i, (word, gap) in enumerate(zip(sentence.words, sentence.gaps[1:], strict=True)):
        halves = (re.escape(f"{word[:k]} {word[k:]}") for k in range(1, len(word)))
        anything = "(" + "|".join([written, *halves]) + ")"
        parts += [anything if i in found.positions else re.escape(word), re.escape(gap)]
    return "".join(parts)
