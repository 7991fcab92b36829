"""What attacks share that go by gradients: whose gradient, averaged over how many draws, away from which labels."""

from dataclasses import replace
from typing import Annotated, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass

from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.fixtures.protocols import Gradient

from .base import STRICT, Attack, Attacked, AttackResult, Context

UNSTATED = {"unstated": True}
"""Marks a parameter that no source states and that does not speak against a claim: how often a victim is drawn."""


@dataclass(config=STRICT, kw_only=True)
class GradientAttack(Attack):
    """An attack that differentiates the victim.

    Args:
        gradient: of the defence as it is written, of its surrogate, of the backbone, or of its unrolled steps.
        eot: draws of a randomised defence averaged per gradient.
        draws: of EOT: new or the same at every step.
        labels: attacked are the truth, or what the model itself says.
    """

    gradient: Gradient = "direct"
    eot: Annotated[int, Field(ge=1, json_schema_extra=UNSTATED)] = 1
    draws: Annotated[Literal["fresh", "fixed"], Field(json_schema_extra=UNSTATED)] = "fresh"
    labels: Literal["true", "pseudo"] = "true"

    @property
    def needs(self) -> tuple[str, ...]:
        """See Attack."""
        return ("unrolled",) if self.gradient == "unrolled" else ()

    @property
    def tailored(self) -> bool:
        """See Attack."""
        return self.gradient == "unrolled"

    @property
    def total_steps(self) -> int:
        """Gradient steps in all, over restarts and rounds."""
        steps: int = getattr(self, "steps", 0) * getattr(self, "restarts", 1)
        return steps

    @property
    def averaged_draws(self) -> int:
        """See Attack."""
        return self.eot

    def attack_batch(self, context: Context) -> Attacked:
        """See Attack."""
        return Attacked(self.attack_images(context))

    def attack_images(self, context: Context, prompts: PromptSet | None = None) -> AttackResult:
        """Attacks the images under the clean prompts, or under others."""
        victim = context.victim(self.gradient, period=self.eot if self.draws == "fixed" else 0, prompts=prompts)
        labels = context.labels
        if self.labels == "pseudo":
            with torch.no_grad():
                labels = victim(context.images).argmax(1)
        attack = replace(self, eot=1) if context.deterministic and self.eot > 1 else self
        return attack(victim, context.images, labels, context.keys)
