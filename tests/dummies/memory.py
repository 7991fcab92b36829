"""Answers that depend on what was asked before."""

import os
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from vlm_gauntlet.fixtures.prompts import PromptSet

from .inner import OnUndefended, with_gradient

RADIUS = 0.15
SEEN: list[tuple[Tensor, Tensor]] = []
COUNT = {"calls": 0}
DISK = Path(tempfile.gettempdir()) / f"gauntlet-dummy-{os.getuid()}.pt"


def remembered(images: Tensor, logits: Tensor, seen: list[tuple[Tensor, Tensor]]) -> Tensor:
    """The first answer to anything within a ball."""
    found = []
    for image, own in zip(images.detach(), logits.detach(), strict=True):
        near = [said for i, said in seen if len(said) == len(own) and (i - image).abs().max() <= RADIUS]
        if not near:
            seen.append((image, own))
        found.append(near[0] if near else own)
    return torch.stack(found)


class InTheModule(OnUndefended):
    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        logits = self.model.forward(images, prompts)
        return with_gradient(remembered(images, logits, SEEN), logits)

    surrogate = forward


class InTheClass(OnUndefended):
    seen: list[tuple[Tensor, Tensor]] = []  # noqa: RUF012

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        logits = self.model.forward(images, prompts)
        return with_gradient(remembered(images, logits, type(self).seen), logits)

    surrogate = forward


def _closure():  # type: ignore[no-untyped-def]
    kept: list[tuple[Tensor, Tensor]] = []
    return lambda images, logits: remembered(images, logits, kept)


class InAClosure(OnUndefended):
    recall = staticmethod(_closure())

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        logits = self.model.forward(images, prompts)
        return with_gradient(self.recall(images, logits), logits)

    surrogate = forward


class OnDisk(OnUndefended):
    """Survives the process."""

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        logits = self.model.forward(images, prompts)
        kept = torch.load(DISK, weights_only=True) if DISK.exists() else []
        found = remembered(images, logits, kept)
        torch.save(kept, DISK)
        return with_gradient(found, logits)

    surrogate = forward


class Tired(OnUndefended):
    """Answers the first calls at random, so that the attack learns nothing."""

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        COUNT["calls"] += 1
        logits = self.model.forward(images, prompts)
        return logits.roll(COUNT["calls"] % len(prompts), 1) if 1 < COUNT["calls"] < 30 else logits

    surrogate = forward
