"""The contract of every attack. The base class projects, clips and recomputes success: no attack lies about itself."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol as Interface
from typing import final

import torch
from torch import Tensor

from vlm_gauntlet.fixtures.errors import ContractError, GauntletError

from .balls import outside, project

Logits = Callable[[Tensor], Tensor]


class Victim(Interface):
    """What an attack sees of a model: a callable over a fixed batch of samples, and how to take a part of it."""

    def __call__(self, images: Tensor) -> Tensor:
        """Images [B, 3, H, W] in [0,1] -> logits [B, K], differentiable. A randomised victim draws afresh."""

    def select(self, index: Tensor) -> "Victim":
        """The same victim for the samples at `index`, in that order."""


@dataclass
class Plain:
    """A deterministic callable as a victim."""

    logits: Logits

    def __call__(self, images: Tensor) -> Tensor:
        """See Victim."""
        return self.logits(images)

    def select(self, index: Tensor) -> "Plain":
        """The callable knows nothing of samples."""
        return self


@dataclass
class AttackResult:
    """What an attack returned, after the base class put it right.

    Attributes:
        images: [B, 3, H, W], inside the ball and [0,1].
        success: [B] bool, recomputed on `images` with one fresh call of the victim.
        repaired: [B] bool, samples that the attack had left outside the ball or box.
        telemetry: per-sample series [B] that indicators read (first and last loss, gradient norms).
        notes: warnings of the attack, in words.
        before: [B, 3, H, W], the iterate before the last, of an attack that tells it.
    """

    images: Tensor
    success: Tensor
    repaired: Tensor
    telemetry: dict[str, Tensor] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    before: Tensor | None = None


@dataclass
class Run:
    """What one attack run hands to its `perturb`: the batch, its keys, and where to leave what the result tells."""

    victim: Victim
    images: Tensor
    labels: Tensor
    keys: tuple[int, ...]
    telemetry: dict[str, Tensor] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    before: Tensor | None = None


@dataclass
class Attack(ABC):
    """An attack with its budget.

    Args:
        norm: `linf` or `l2`.
        eps: radius in the [0,1] space of the images that come in.
    """

    norm: str
    eps: float

    @abstractmethod
    def perturb(self, run: Run) -> Tensor:
        """The attack itself: run -> images [B, 3, H, W]."""

    @final
    def __call__(self, victim: Victim, images: Tensor, labels: Tensor, keys: tuple[int, ...]) -> AttackResult:
        """Attacks a batch.

        Args:
            victim: see Victim.
            images: clean images [B, 3, H, W], float32, in [0,1].
            labels: true classes [B].
            keys: one random key a sample.

        Raises:
            GauntletError: the batch is empty, not float32, not finite or not in [0,1]; labels or keys do not match it.
            ContractError: the attack returned another shape or non-finite images.
        """
        check_images(images, where=type(self).__name__)
        if labels.shape != images.shape[:1] or len(keys) != len(images):
            raise GauntletError(
                f"labels of shape {tuple(labels.shape)} and {len(keys)} keys for {len(images)} images",
                expected="one class and one key a sample", where=type(self).__name__, fix="cut all three alike",
            )  # fmt: skip
        run = Run(victim, images.detach(), labels, keys)
        proposed = self.perturb(run).detach()
        if proposed.shape != images.shape or not torch.isfinite(proposed).all():
            finite = bool(torch.isfinite(proposed).all())
            raise ContractError(
                f"{type(self).__name__} returned {tuple(proposed.shape)}, finite: {finite}",
                expected=f"finite images of shape {tuple(images.shape)}",
                where=f"{type(self).__name__}.perturb",
                fix="return one image a sample",
            )
        repaired = outside(proposed, images, norm=self.norm, eps=self.eps)
        if repaired.any():
            run.notes.append(f"out-of-ball: {int(repaired.sum())} of {len(images)} images were projected back")
        adversarial = project(proposed, images, norm=self.norm, eps=self.eps)
        with torch.no_grad():
            success = victim(adversarial).argmax(1) != labels
        return AttackResult(adversarial, success, repaired, run.telemetry, run.notes, run.before)


def check_images(images: Tensor, *, where: str) -> None:
    """Raises GauntletError unless images are a non-empty, finite, float32 NCHW batch in [0,1]."""

    def fail(came: str, fix: str) -> GauntletError:
        return GauntletError(came, expected="finite float32 images [B, 3, H, W] in [0,1], B >= 1", where=where, fix=fix)

    if images.dim() != 4 or images.shape[1] != 3 or len(images) == 0:
        raise fail(f"a tensor of shape {tuple(images.shape)}", "stack RGB images into one batch")
    if images.dtype != torch.float32:
        raise fail(f"images of dtype {images.dtype}", "call .float(), after dividing bytes by 255")
    low, high = images.detach().aminmax()
    if not (torch.isfinite(low) and torch.isfinite(high)):
        raise fail("images with NaN or infinite values", "look at what made them; nothing is repaired silently")
    if low < 0 or high > 1:
        raise fail(
            f"images in [{low:.4g}, {high:.4g}]", "do not normalise: the backbone does it inside; give pixels / 255"
        )
