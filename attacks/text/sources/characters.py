"""Edits of one word's characters, as a reader hardly sees them and a tokenizer does.

Source: TextBugger (Li et al. 2019, arXiv:1812.05271), section III: insert a space, delete, swap, substitute a character
that looks alike. The paper draws one edit of each kind at random; here they are listed in a fixed order.
"""

from collections.abc import Iterator, Sequence
from itertools import chain, zip_longest

# Letters of other alphabets that look the same in most fonts; digits and signs where there is none.
LOOKALIKES = dict(zip("aceijopsxyhklmntuvbdfgqrwz", "асеіјорѕхуһκ1мп7υνЬԁƒ9զгѡ2", strict=True))


class Characters:
    """Kinds take turns; within a kind the edits start in the middle of the word."""

    digest = ""

    def __call__(self, words: Sequence[str], position: int) -> list[str]:
        """See Source."""
        word = words[position]
        turns = zip_longest(_split(word), _delete(word), _swap(word), _substitute(word))
        edits = dict.fromkeys(edit for edit in chain.from_iterable(turns) if edit is not None)
        return [edit for edit in edits if edit != word]


def _from_the_middle(low: int, high: int) -> list[int]:
    """Positions low..high-1, those next to the middle first."""
    return sorted(range(low, high), key=lambda i: (abs(2 * i - low - high + 1), i))


def _split(word: str) -> Iterator[str]:
    yield from (f"{word[:i]} {word[i:]}" for i in _from_the_middle(1, len(word)))


def _delete(word: str) -> Iterator[str]:
    """Not the first or last character: readers hold on to these."""
    yield from (word[:i] + word[i + 1 :] for i in _from_the_middle(1, len(word) - 1))


def _swap(word: str) -> Iterator[str]:
    yield from (word[:i] + word[i + 1] + word[i] + word[i + 2 :] for i in _from_the_middle(1, len(word) - 2))


def _substitute(word: str) -> Iterator[str]:
    for i in _from_the_middle(0, len(word)):
        if (letter := word[i].lower()) in LOOKALIKES:
            yield word[:i] + LOOKALIKES[letter] + word[i + 1 :]
