"""Every class prompt attacked once, whatever the image: the text attack on a classifier.

Source: MMCoA (Zhou et al. 2024, arXiv:2404.19287), its test of text and of both modalities attacked apart.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.prompts import PromptSet

from .cache import cached
from .reader import TextTower
from .rules import WordSwap
from .search import Attacked, attack_sentence
from .sources.base import Source
from .sources.registry import build_source

SHOWN = 3


@dataclass(frozen=True)
class AttackedPrompts:
    """Prompts after the attack, one record for each sentence, and the digest of the candidates' data."""

    prompts: PromptSet
    sentences: tuple[Attacked, ...]
    source_digest: str

    @property
    def notes(self) -> tuple[str, ...]:
        """What was done, in words."""
        changed = [s for s in self.sentences if s.positions]
        shown = "; ".join(f"{s.before!r} became {s.after!r}" for s in changed[:SHOWN])
        told = f"text: {len(changed)} of {len(self.sentences)} sentences changed"
        source = f", source {self.source_digest[:16]}" if self.source_digest else ""
        return (f"{told}, prompts {self.prompts.digest[:16]}{source}" + (f", such as {shown}" if shown else ""),)


def attack_prompts(tower: Backbone, prompts: PromptSet, rules: WordSwap, source: Source) -> AttackedPrompts:
    """Attacks each sentence of each class on its own; class names and order stay.

    Args:
        tower: whose text tower the attacker reads.
        prompts: clean prompts.
        rules: budget and switches.
        source: candidates.
    """
    texts = list(dict.fromkeys(text for group in prompts.prompts for text in group))
    return _told(prompts, attack_sentences(texts, tower, prompts, rules, source), source)


def attack_sentences(
    texts: Sequence[str], tower: Backbone, prompts: PromptSet, rules: WordSwap, source: Source
) -> list[Attacked]:
    """Attacks sentences one by one; the other arguments are those of `attack_prompts`."""
    reader = TextTower(tower)
    return [attack_sentence(text, reader, source, rules, class_names=prompts.class_names) for text in texts]


def _told(prompts: PromptSet, sentences: Sequence[Attacked], source: Source) -> AttackedPrompts:
    """The prompts with each sentence as it was attacked."""
    done = {sentence.before: sentence.after for sentence in sentences}
    after = tuple(tuple(done[text] for text in group) for group in prompts.prompts)
    return AttackedPrompts(PromptSet(prompts.class_names, after), tuple(sentences), source.digest)


@lru_cache(maxsize=8)
def attacked_prompts(tower: Backbone, prompts: PromptSet, rules: WordSwap) -> AttackedPrompts:
    """The same with the source that the rules name; made once for all cells, and stored on disk.

    Raises:
        UnavailableError: the source's data or weights are not on this machine.
    """
    source = build_source(rules)
    sentences = cached(
        tower, prompts, rules, source, lambda texts: attack_sentences(texts, tower, prompts, rules, source)
    )
    return _told(prompts, sentences, source)
