"""The bench that a defence is checked on: private copies of the backbone, some pictures, their labels."""

import copy
from dataclasses import dataclass
from functools import cached_property
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from vlm_gauntlet.attacks.base import AttackResult, Plain
from vlm_gauntlet.attacks.pgd import PGD
from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.datasets import datasets
from vlm_gauntlet.fixtures.draws import Draws, key_of
from vlm_gauntlet.fixtures.files import sha256
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.fixtures.protocols import Gradient
from vlm_gauntlet.methods.base import Defence
from vlm_gauntlet.methods.registry import Method
from vlm_gauntlet.methods.victims import BoundDefence

PICTURES, FEWER, MANY_PASSES = 16, 8, 20  # fewer pictures for a defence of more passes than that
AVERAGED = 4  # draws of a randomised defence in one adaptive gradient
EMBEDDED_SET = "fashion_mnist"
BUDGETS = (1 / 255, 2 / 255, 4 / 255, 8 / 255, 16 / 255)


@dataclass(frozen=True)
class Material:
    """Pictures to check with: images [B, 3, S, S] in [0,1], labels [B], the classes, and where they come from."""

    images: Tensor
    labels: Tensor
    prompts: PromptSet
    source: str

    @property
    def digest(self) -> str:
        """Of the pictures, their labels and the classes."""
        pixels = b"".join(tensor.cpu().numpy().tobytes() for tensor in (self.images, self.labels))
        return sha256(pixels + self.prompts.digest.encode())


@dataclass(frozen=True)
class Trial:
    """An attack on a fresh defence: its result, and which of the defence's tensors it changed or left a gradient in."""

    result: AttackResult
    tensors: int
    changed: tuple[str, ...]
    graded: tuple[str, ...]


_BUDGETS: WeakKeyDictionary[Backbone, dict[str, float]] = WeakKeyDictionary()  # all methods of a tier ask the same


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
        """PGD with any iterate; averaged over draws of a randomised defence, but for its plain gradient.

        Of a defence that draws nothing it ends where all are broken: what it breaks stays the same.
        """
        eot = AVERAGED if gradient != "direct" and defence.card.randomised else 1
        budget = self.eps if eps is None else eps
        stop = not defence.card.randomised
        pgd = PGD("linf", budget, steps=steps, selection="any-iterate", eot=eot, stop=stop)
        return pgd(self.victim(defence, gradient), self.images, self.material.labels, self.keys)

    def trial(self, gradient: Gradient, *, steps: int = 10) -> Trial:
        """An attack on a fresh defence, and what it did to the defence."""
        defence = self.defence()
        before = {name: tensor.clone() for name, tensor in _tensors(defence)}
        result = self.attack(defence, gradient, steps=steps)
        return Trial(
            result, len(before),
            changed=tuple(name for name, tensor in _tensors(defence) if not torch.equal(tensor, before[name])),
            graded=tuple(name for name, tensor in _tensors(defence) if tensor.grad is not None),
        )  # fmt: skip

    @cached_property
    def trials(self) -> tuple[Trial, Trial]:
        """PGD-10 through the defence, and through its surrogate; made once, for all checks that ask about them."""
        return self.trial("direct"), self.trial("straight-through")

    @property
    def plain_and_adaptive(self) -> tuple[AttackResult, AttackResult]:
        """What PGD-10 left through the defence, and through its surrogate."""
        plain, adaptive = self.trials
        return plain.result, adaptive.result

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
        known = _BUDGETS.setdefault(self.backbone, {})
        if (digest := self.material.digest) not in known:
            known[digest] = self._budget()
        return known[digest]

    def _budget(self) -> float:
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


def _tensors(defence: Defence) -> list[tuple[str, Tensor]]:
    return [*defence.named_parameters(), *defence.named_buffers()]
