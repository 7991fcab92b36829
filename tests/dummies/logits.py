"""Logits that tell little: saturated, rounded, one class and nothing else."""

import torch
from torch import Tensor

from vlm_gauntlet.fixtures.prompts import PromptSet

from .inner import OnTeCoA, OnUndefended


class Saturated(OnUndefended):
    """So sure of itself that the cross-entropy has no gradient."""

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        return 1e4 * self.model.forward(images, prompts)

    surrogate = forward


class Whole(OnUndefended):
    """Whole numbers."""

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        return self.model.forward(images, prompts).round()


class Plateaus(OnUndefended):
    """Steps so high that a query sees no slope."""

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        return 10 * (self.model.forward(images, prompts) / 10).round()


class ClassAlone(OnTeCoA):
    """The class, and nothing of how near the next one is."""

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        logits = self.model.forward(images, prompts)
        return 100.0 * torch.nn.functional.one_hot(logits.argmax(1), len(prompts)).float()


class ClassAndGradient(OnTeCoA):
    """The class, with a gradient that is almost nothing."""

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        logits = self.model.forward(images, prompts)
        return 100.0 * torch.nn.functional.one_hot(logits.argmax(1), len(prompts)) + 1e-6 * logits

    surrogate = forward


class Flat(OnUndefended):
    """Logits squeezed until differences are rounding."""

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        return 1.0 + 1e-7 * self.model.forward(images, prompts)

    surrogate = forward
