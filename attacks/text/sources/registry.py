"""From the rules of a protocol to the source that they name."""

from functools import cache

from vlm_gauntlet.attacks.text.rules import WordSwap

from .base import Source
from .characters import Characters
from .masked_lm import MaskedLM
from .wordnet import WordNet


@cache
def build_source(rules: WordSwap) -> Source:
    """The source of candidates; made once in a process.

    Raises:
        UnavailableError: its data or weights are not on this machine.
    """
    if rules.source == "masked-lm":
        return MaskedLM.load(
            index_shift=rules.index_shift, top=rules.candidates, max_length=rules.max_length, written=rules.written
        )
    return WordNet() if rules.source == "wordnet" else Characters()
