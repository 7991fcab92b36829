"""Images and their captions attacked together, as retrieval needs it. Text first, then the image, as published."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vlm_gauntlet.attacks.text.rules import WordSwap
from vlm_gauntlet.fixtures.backbone import Backbone

from ..base import AttackResult
from ..text.objectives import away_from_image
from ..text.reader import TextTower
from ..text.search import Attacked, attack_sentence
from ..text.sources.base import Source
from .ascent import PairAscent
from .paired import Paired

Captions = Sequence[Sequence[str]]


@dataclass(frozen=True)
class AttackedPairs:
    """What an attack on pairs returned: images as the base class put them right, and one record a caption."""

    result: AttackResult
    sentences: tuple[tuple[Attacked, ...], ...]

    @property
    def captions(self) -> tuple[tuple[str, ...], ...]:
        """The captions after the attack, image by image."""
        return tuple(tuple(sentence.after for sentence in group) for group in self.sentences)


def attack_pairs(
    attack: PairAscent,
    tower: Backbone,
    images: Tensor,
    captions: Captions,
    labels: Tensor,
    keys: tuple[int, ...],
    *,
    decide: Callable[[Tensor], Tensor],
    rules: WordSwap,
    source: Source,
) -> AttackedPairs:
    """Attacks a batch of images, each with its own captions. No image sees another.

    Args:
        attack: the image step; `aims_text` says how captions are attacked: against the clean image, and again from
            the start against what it left (`text_aim`; SGA, DRA), or once, away from what they were (Co-Attack).
        tower: both towers, as the attacker knows them.
        images: clean images [B, 3, H, W], float32, in [0,1].
        captions: at least one an image.
        labels: [B], right answers in the terms of `decide`.
        keys: one random key an image.
        decide: unit image features [B, D] -> logits [B, K], for the success of the image step alone.
        rules: word budget and switches.
        source: candidates for a word.
    """
    reader = TextTower(tower)

    def attacked(against: Tensor | None) -> tuple[tuple[Attacked, ...], ...]:
        aims = [None] * len(captions) if against is None else [away_from_image(feature) for feature in against]
        return tuple(
            tuple(attack_sentence(text, reader, source, rules, objective=aim) for text in group)
            for group, aim in zip(captions, aims, strict=True)
        )

    victim = Paired(tower, images.new_empty(0), decide)
    with torch.no_grad():
        sentences = attacked(victim.features(images) if attack.aims_text else None)
    read = [attack.guide(reader([sentence.after for sentence in group])) for group in sentences]
    victim.guides = torch.stack(read).to(images)
    result = attack(victim, images, labels, keys)
    if attack.aims_text:
        with torch.no_grad():
            sentences = attacked(attack.text_aim(victim, images, result))
    return AttackedPairs(result, sentences)
