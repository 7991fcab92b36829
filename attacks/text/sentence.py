"""A sentence as words and what stands between them; what one changed word may be."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

_WORD = re.compile(r"\w+(?:['’-]\w+)*")


@dataclass(frozen=True)
class Sentence:
    """Words, and the gaps (spaces, punctuation) around them: one gap more than words."""

    words: tuple[str, ...]
    gaps: tuple[str, ...]

    @classmethod
    def read(cls, text: str, split: str = "punctuation-apart") -> "Sentence":
        """Takes a text apart; `text` puts it together again, letter by letter.

        Args:
            text: the sentence.
            split: `punctuation-apart`; or `spaces`, where a word is all between two spaces, nothing included.
        """
        if split == "spaces":
            words = text.split(" ")
            return cls(tuple(words), ("", *(" " for _ in words[1:]), ""))
        found = list(_WORD.finditer(text))
        starts, ends = [m.start() for m in found], [m.end() for m in found]
        gaps = (text[a:b] for a, b in zip([0, *ends], [*starts, len(text)], strict=True))
        return cls(tuple(m.group() for m in found), tuple(gaps))

    @property
    def text(self) -> str:
        """The whole sentence."""
        return self.gaps[0] + "".join(word + gap for word, gap in zip(self.words, self.gaps[1:], strict=True))

    def swapped(self, position: int, word: str) -> "Sentence":
        """The sentence with another word at a position."""
        return Sentence((*self.words[:position], word, *self.words[position + 1 :]), self.gaps)


def is_one_word(candidate: str, original: str) -> bool:
    """Whether a candidate counts as one changed word: it is one word, or the original split by one space."""
    parts = candidate.split()
    split = len(parts) == 2 and "".join(parts) == original
    return candidate == " ".join(parts) and (len(parts) == 1 or split)


def injected_names(before: str, after: str, class_names: Iterable[str]) -> list[str]:
    """Class names, also in the plural, that stand more often in `after` than in `before`; case does not matter."""

    def count(name: str, text: str) -> int:
        alone = rf"(?<!\w)(?<!\w-){re.escape(name)}(?:e?s)?(?!-?\w)"  # `t-shirt` does not hold the word `shirt`
        return len(re.findall(alone, text, re.IGNORECASE))

    return [name for name in class_names if count(name, after) > count(name, before)]
