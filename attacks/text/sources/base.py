"""The interface of every candidate source."""

from collections.abc import Sequence
from typing import Protocol as Interface


class Source(Interface):
    """Candidates that may stand in place of a word. The search checks them; a source need not know the rules."""

    @property
    def digest(self) -> str:
        """What the candidates depend on besides the words and this code: the data or weights behind the source."""

    def __call__(self, words: Sequence[str], position: int) -> list[str]:
        """Words of a sentence and the place of one of them -> candidates, best first, without the word itself."""
