"""More places to remember in: default arguments, caches, threads, other modules, buffers, a disk that leaks a bit."""

import queue
from functools import cache

import torch
from torch import Tensor

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.prompts import PromptSet

from .inner import OnUndefended, with_gradient
from .memory import DISK, remembered

Kept = list[tuple[Tensor, Tensor]]


class InDefaultArgument(OnUndefended):
    def forward(self, images: Tensor, prompts: PromptSet, kept: Kept = []) -> Tensor:  # noqa: B006
        logits = self.model.forward(images, prompts)
        return with_gradient(remembered(images, logits, kept), logits)

    surrogate = forward


@cache
def shelf() -> Kept:
    """One list for all who ask."""
    return []


class InACache(OnUndefended):
    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        logits = self.model.forward(images, prompts)
        return with_gradient(remembered(images, logits, shelf()), logits)

    surrogate = forward


class InTorch(OnUndefended):
    """In an attribute of another package."""

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        logits = self.model.forward(images, prompts)
        kept = vars(torch).setdefault("_kept_by_a_dummy", [])
        return with_gradient(remembered(images, logits, kept), logits)

    surrogate = forward


class InAQueue(OnUndefended):
    """In a queue, as between threads, that is emptied and filled again."""

    passed: "queue.SimpleQueue[Kept]" = queue.SimpleQueue()

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        logits = self.model.forward(images, prompts)
        kept = self.passed.get() if not self.passed.empty() else []
        found = remembered(images, logits, kept)
        self.passed.put(kept)
        return with_gradient(found, logits)

    surrogate = forward


class InABuffer(OnUndefended):
    """In the module's own state, where the base class looks."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__(backbone)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        self.calls += 1
        logits = self.model.forward(images, prompts)
        return logits.roll(1, 1) if 1 < int(self.calls) < 30 else logits

    surrogate = forward


class OnDiskAlive(OnUndefended):
    """What it remembers outlives the process; a trace of its own answer keeps loss and gradient alive."""

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        logits, place = self.model.forward(images, prompts), DISK.with_suffix(".alive.pt")
        kept = torch.load(place, weights_only=True) if place.exists() else []
        found = remembered(images, logits, kept)
        torch.save(kept, place)
        return found + 0.02 * logits

    surrogate = forward
