"""The contract of every attack. The base class projects, clips and recomputes success: no attack lies about itself."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass as plain
from dataclasses import field
from fractions import Fraction
from typing import Annotated, ClassVar, final
from typing import Protocol as Interface

import torch
from pydantic import BeforeValidator, ConfigDict, PlainSerializer
from pydantic.dataclasses import dataclass
from torch import Tensor

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.errors import ContractError, GauntletError
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.fixtures.protocols import Gradient, Modality, fraction

from .balls import outside, project

Logits = Callable[[Tensor], Tensor]


class Victim(Interface):
    """What an attack sees of a model: a callable over a fixed batch of samples, and how to take a part of it."""

    def __call__(self, images: Tensor) -> Tensor:
        """Images [B, 3, H, W] in [0,1] -> logits [B, K], differentiable. A randomised victim draws afresh."""

    def select(self, index: Tensor) -> "Victim":
        """The same victim for the samples at `index`, in that order."""


@plain
class Plain:
    """A deterministic callable as a victim."""

    logits: Logits

    def __call__(self, images: Tensor) -> Tensor:
        """See Victim."""
        return self.logits(images)

    def select(self, index: Tensor) -> "Plain":
        """The callable knows nothing of samples."""
        return self


@plain
class AttackResult:
    """What an attack returned, after the base class put it right.

    Attributes:
        images: [B, 3, H, W], inside the ball and [0,1].
        success: [B] bool, recomputed on `images` with one fresh call of the victim (of one that draws nothing, with
            its last answer where it was asked about these very images).
        repaired: [B] bool, samples that the attack had left outside the ball or box.
        telemetry: per-sample series [B] that indicators read (first and last loss, gradient norms).
        notes: warnings of the attack, in words.
        previous: [B, 3, H, W], the iterate before the last, of an attack that tells it.
    """

    images: Tensor
    success: Tensor
    repaired: Tensor
    telemetry: dict[str, Tensor] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    previous: Tensor | None = None


@plain
class Run:
    """What one attack run hands to its `perturb`: the batch, its keys, and where to leave what the result tells."""

    victim: Victim
    images: Tensor
    labels: Tensor
    keys: tuple[int, ...]
    telemetry: dict[str, Tensor] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    previous: Tensor | None = None


class Context(Interface):
    """A batch under attack: what an attack may know and touch."""

    images: Tensor
    labels: Tensor
    keys: tuple[int, ...]

    @property
    def prompts(self) -> PromptSet:
        """The clean prompts."""

    @property
    def deterministic(self) -> bool:
        """Whether the victim draws nothing, so that averaging over draws would only cost."""

    @property
    def known_backbone(self) -> Backbone:
        """The backbone whose features an attacker of text reads."""

    def sources(self, prompts: PromptSet | None = None) -> Mapping[str, Victim]:
        """Models that images may be transferred from, by name; on the clean prompts, or on others."""

    def victim(self, gradient: Gradient = "direct", *, period: int = 0, prompts: PromptSet | None = None) -> Victim:
        """The model to break.

        Args:
            gradient: whose gradient the attacker gets.
            period: its random streams repeat after so many calls; 0: always fresh.
            prompts: the classes; default: the clean prompts.
        """


@plain
class Attacked:
    """What an attack made of a batch: images, prompts, or both; `notes` tell of the prompts."""

    result: AttackResult | None = None
    prompts: PromptSet | None = None
    notes: tuple[str, ...] = ()


@plain(frozen=True)
class AttackInfo:
    """An attack's identity.

    Args:
        name: what a protocol calls it.
        title: what it does.
        source: the paper.
        norms: the balls it knows.
        modality: what it changes.
    """

    name: str
    title: str
    source: str
    norms: tuple[str, ...] = ("linf", "l2")
    modality: Modality = "image"


def _exact(value: object) -> object:
    exact = isinstance(value, (str, int, float)) and not isinstance(value, bool)
    return fraction(value) if exact else value  # type: ignore[arg-type]


Number = Annotated[Fraction | float, BeforeValidator(_exact), PlainSerializer(str, return_type=str)]
"""A parameter that is an exact fraction in files; code may give it as a float."""


STRICT = ConfigDict(extra="forbid", arbitrary_types_allowed=True)


@dataclass(config=STRICT)
class Attack(ABC):
    """An attack with its budget. The fields of a subclass are the parameters that a protocol may set, with defaults.

    A field of one possible value says what the attack always does, so that claims can be compared with it.

    Args:
        norm: `linf` or `l2`; `none` where images stay.
        eps: radius in the [0,1] space of the images that come in.
    """

    info: ClassVar[AttackInfo]
    losses_compare: ClassVar[bool] = True
    """Whether its loss is of the size of a cross-entropy, so that its gradients compare with another model's."""

    transfers: ClassVar[bool] = False
    """Whether it asks for the context's `sources`."""

    norm: str
    eps: float

    @property
    def needs(self) -> tuple[str, ...]:
        """Parts that a defence must offer, such as `unrolled`."""
        return ()

    @property
    def tailored(self) -> bool:
        """Whether it is made for one defence, beyond going through it (level T2)."""
        return False

    @property
    def couples_batch(self) -> bool:
        """Whether a sample's result depends on its neighbours in the batch."""
        return False

    @property
    def averaged_draws(self) -> int:
        """Draws of a randomised defence that one gradient averages."""
        return 1

    @property
    def source_digest(self) -> str:
        """Digest of the data that it takes its words or its perturbation from, or empty.

        Raises:
            UnavailableError: they are not on this machine.
        """
        return ""

    def attack_batch(self, context: Context) -> Attacked:
        """Attacks a batch of a cell. Default: the images, through the victim's own logits."""
        return Attacked(self(context.victim(), context.images, context.labels, context.keys))

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
            success = _asked(victim, adversarial).argmax(1) != labels
        return AttackResult(adversarial, success, repaired, run.telemetry, run.notes, run.previous)


def _asked(victim: Victim, images: Tensor) -> Tensor:
    """Logits [B, K] of one more call, or those that the victim itself says such a call would repeat."""
    recall = getattr(victim, "recall", None)
    logits: Tensor | None = recall(images) if recall else None
    return victim(images) if logits is None else logits


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
