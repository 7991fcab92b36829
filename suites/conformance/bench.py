"""The bench that a defence is checked on: private copies of the backbone, some pictures, their labels."""

import copy
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from vlm_gauntlet.attacks.base import AttackResult, Plain
from vlm_gauntlet.attacks.pgd import PGD
from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.datasets import datasets
from vlm_gauntlet.fixtures.draws import Draws, key_of
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.fixtures.protocols import Gradient
from vlm_gauntlet.methods.base import Defence
from vlm_gauntlet.methods.registry import Method
from vlm_gauntlet.methods.victims import BoundDefence

PICTURES, FEWER, MANY_PASSES = 16, 8, 20  # fewer pictures for a defence of more passes than that
EMBEDDED_SET = "fashion_mnist"
BUDGETS = (1 / 255, 2 / 255, 4 / 255, 8 / 255, 16 / 255)


@dataclass(frozen=True)
class Material:
    """Pictures to check with: images [B, 3, S, S] in [0,1], labels [B], the classes, and where they come from."""

    images: Tensor
    labels: Tensor
    prompts: PromptSet
    source: str


def default_material(backbone: Backbone, n: int = PICTURES) -> Material:
    """The first `n` pictures of the embedded set; without it, noise that the undefended backbone has labelled."""
    size, device = backbone.image_size, backbone.device
    if EMBEDDED_SET in datasets():
        data = datasets()[EMBEDDED_SET]
        batch = next(data.batches(limit=n, batch_size=n, size=size))
        source = f"{n} pictures of {EMBEDDED_SET}"
        return Material(batch.images.to(device), batch.labels.to(device), data.prompts, source)
    prompts = PromptSet.from_templates(["cat", "dog", "ship", "tree", "cup"], ["a photo of a {c}."])
    images = torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(0)).to(device)
    with torch.no_grad():
        labels = backbone(images, prompts).argmax(1)
    return Material(images, labels, prompts, f"{n} random pictures labelled by the undefended backbone")


@dataclass(frozen=True)
class Bench:
    """Everything that a check may use.

    Args:
        method: the defence's class and switches; each check builds its own.
        backbone: the undefended model. It is never handed out, so that no defence can spoil it for the next check.
        material: the pictures.
    """

    method: Method
    backbone: Backbone
    material: Material

    def defence(self) -> Defence:
        """A fresh defence on a private copy of the backbone."""
        shared = {id(self.backbone.tokenize): self.backbone.tokenize}  # large, and holds no weights
        return self.method.build(copy.deepcopy(self.backbone, shared))

    @property
    def images(self) -> Tensor:
        """A copy of the pictures [B, 3, S, S], so that a defence that writes into its input spoils nothing."""
        return self.material.images.clone()

    @property
    def keys(self) -> tuple[int, ...]:
        """One random key a picture."""
        return tuple(key_of("conformance", i) for i in range(len(self.material.images)))

    def logits(
        self,
        defence: Defence,
        images: Tensor,
        keys: tuple[int, ...],
        *,
        call: int = 0,
        prompts: PromptSet | None = None,
    ) -> Tensor:
        """Logits [B, K] without a graph, on the streams of these keys."""
        with torch.no_grad():
            return defence(images, prompts or self.material.prompts, draws=Draws(keys, call)).detach()

    def victim(self, defence: Defence, gradient: Gradient = "direct") -> BoundDefence:
        """The defence as an attack sees it."""
        return BoundDefence(defence, self.material.prompts, self.keys, gradient)

    def attack(
        self, defence: Defence, gradient: Gradient = "direct", *, steps: int = 10, eps: float | None = None
    ) -> AttackResult:
        """PGD with any iterate; averaged over draws of a randomised defence, but for its plain gradient."""
        eot = 4 if gradient != "direct" and defence.card.randomised else 1
        budget = self.eps if eps is None else eps
        pgd = PGD("linf", budget, steps=steps, selection="any-iterate", eot=eot)
        return pgd(self.victim(defence, gradient), self.images, self.material.labels, self.keys)

    @cached_property
    def plain_and_adaptive(self) -> tuple[AttackResult, AttackResult]:
        """PGD-10 through the defence, and through its surrogate, each on a fresh defence."""
        return self.attack(self.defence()), self.attack(self.defence(), "straight-through")

    def bpda(self) -> AttackResult:
        """PGD-10 through the gradient of the backbone, whatever surrogate the class declares."""
        return self.attack(self.defence(), "backbone")

    @cached_property
    def undefended_logits(self) -> Tensor:
        """Logits [B, K] of the backbone itself."""
        with torch.no_grad():
            return self.backbone(self.images, self.material.prompts)

    @cached_property
    def eps(self) -> float:
        """The papers' smallest L-inf budget at which PGD-10 breaks the undefended backbone on nearly all pictures."""
        victim = Plain(lambda images: self.backbone(images, self.material.prompts))
        for eps in BUDGETS:
            if PGD("linf", eps)(victim, self.images, self.material.labels, self.keys).success.float().mean() > 0.9:
                return eps
        return BUDGETS[-1]

    @property
    def tolerance(self) -> float:
        """How far logits may differ for reasons of float32 alone: a thousandth of their spread."""
        return 1e-3 * max(1.0, float(self.undefended_logits.max() - self.undefended_logits.min()))

    def differ(self, first: Tensor, second: Tensor) -> float:
        """Largest difference of two sets of logits, zero within the tolerance; infinite if one is not finite."""
        largest = float((first - second).abs().nan_to_num(float("inf")).max())
        return largest if largest > self.tolerance else 0.0
