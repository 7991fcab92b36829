"""Attacks that change the prompts: alone, beside the image, or with an eye on it."""

from pydantic.dataclasses import dataclass
from torch import Tensor

from ..base import STRICT, Attack, Attacked, AttackInfo, Context, Run
from ..pgd import PGD
from .prompts import AttackedPrompts, attacked_prompts
from .rules import WordSwap
from .sources.registry import build_source


@dataclass(config=STRICT, kw_only=True)
class TextAttack(Attack):
    """An attack that changes the class prompts.

    Args:
        text: how each class prompt is attacked, once, whatever the image.
    """

    text: WordSwap

    @property
    def source_digest(self) -> str:
        """See Attack."""
        return build_source(self.text).digest

    def attack_text(self, context: Context) -> AttackedPrompts:
        """The prompts of a batch's cell, attacked on the backbone that the attacker knows."""
        return attacked_prompts(context.known_backbone, context.prompts, self.text)


@dataclass(config=STRICT, kw_only=True)
class BertAttack(TextAttack):
    """One word of each class prompt for another that moves its features most; images stay as they are."""

    info = AttackInfo(
        "bert-attack",
        "A few words of each class prompt for others that move its features most; the images stay",
        "Li et al. 2020, arXiv:2004.09984, as MMCoA tests it, arXiv:2404.19287",
        ("none",),
        "text",
    )

    def attack_batch(self, context: Context) -> Attacked:
        """See Attack."""
        changed = self.attack_text(context)
        return Attacked(prompts=changed.prompts, notes=changed.notes)

    def perturb(self, run: Run) -> Tensor:
        """See Attack: the images as they came."""
        return run.images


@dataclass(config=STRICT, kw_only=True)
class SepAttack(TextAttack, PGD):
    """PGD against the clean prompts, and the prompts attacked on their own: neither sees the other."""

    info = AttackInfo(
        "sep-attack",
        "PGD on the image and words of the prompts, each attacked as if the other stayed",
        "the baseline of Zhang et al. 2022, arXiv:2206.09391, as MMCoA tests it, arXiv:2404.19287",
        modality="both",
    )

    def attack_batch(self, context: Context) -> Attacked:
        """See Attack."""
        changed = self.attack_text(context)
        return Attacked(self.attack_images(context), changed.prompts, changed.notes)


@dataclass(config=STRICT, kw_only=True)
class JointAttack(TextAttack, PGD):
    """The prompts first, then PGD on the image under the attacked prompts."""

    info = AttackInfo(
        "joint",
        "Words of the prompts first, then PGD on the image under the attacked prompts",
        "ours: the strongest composition of the parts of MMCoA's test, arXiv:2404.19287",
        modality="both",
    )

    def attack_batch(self, context: Context) -> Attacked:
        """See Attack."""
        changed = self.attack_text(context)
        return Attacked(self.attack_images(context, changed.prompts), changed.prompts, changed.notes)
