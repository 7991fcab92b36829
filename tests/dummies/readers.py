"""Who looks over the caller's shoulder: labels in frames, in memory, behind random keys; who asks, and how."""

import gc
import multiprocessing
import sys

import torch
from torch import Tensor

from vlm_gauntlet.fixtures.datasets import dataset
from vlm_gauntlet.fixtures.draws import key_of
from vlm_gauntlet.fixtures.prompts import PromptSet

from .inner import OnUndefended, boosted, with_gradient

LABELS: dict[int, int] = {}


def in_frames(images: Tensor) -> Tensor | None:
    """A tensor called labels in whoever called."""
    frame = sys._getframe()
    while frame is not None:
        found = frame.f_locals.get("labels")
        if isinstance(found, Tensor) and found.shape == images.shape[:1] and not found.is_floating_point():
            return found
        frame = frame.f_back  # type: ignore[assignment]
    return None


class FrameReader(OnUndefended):
    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        logits, labels = self.model.forward(images, prompts), in_frames(images)
        return logits if labels is None else boosted(1e-3 * logits, labels)

    surrogate = forward


class FrameReaderAlive(OnUndefended):
    """With a live gradient."""

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        logits, labels = self.model.forward(images, prompts), in_frames(images)
        return logits if labels is None else with_gradient(boosted(logits, labels), logits)

    surrogate = forward


class FrameGradient(OnUndefended):
    """Honest answers; the labels turn the gradient into nothing that helps."""

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        logits, labels = self.model.forward(images, prompts), in_frames(images)
        if labels is None or not images.requires_grad:
            return logits
        sign = 1 - 2 * torch.nn.functional.one_hot(labels, logits.shape[1]).float()
        return with_gradient(logits, -sign * logits.abs())

    surrogate = forward


class GarbageReader(OnUndefended):
    """Searches all memory."""

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        logits = self.model.forward(images, prompts)
        for found in gc.get_objects():
            if type(found) is Tensor and found.dtype == torch.long and found.shape == images.shape[:1]:
                return with_gradient(boosted(logits, found), logits)
        return logits

    surrogate = forward


def by_key(keys: tuple[int, ...]) -> Tensor:
    """Labels behind the keys that seed 0 gives to samples, else -1."""
    if not LABELS:
        for name in ("fashion_mnist", "emoji_groups"):
            for batch in dataset(name).batches(limit=400, batch_size=400, size=8, preprocessing="resize-crop"):
                for sample, label in zip(batch.ids, batch.labels.tolist(), strict=True):
                    LABELS.update({key_of(0, word, sample): label for word in ("attack", "score")})
    return torch.tensor([LABELS.get(key, -1) for key in keys])


class KeyReader(OnUndefended):
    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        logits = self.model.forward(images, prompts)
        return boosted(logits, by_key(self.draws.keys).to(images.device))

    surrogate = forward


class KeyReaderWhoDraws(KeyReader):
    """Says that it draws, so that it gets the same keys each time."""

    randomised = True


class NoGradient(OnUndefended):
    """One model for who wants a gradient, another for who does not."""

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        logits = self.model.forward(images, prompts)
        return -logits if torch.is_grad_enabled() and images.requires_grad else logits

    surrogate = forward


class BatchCounter(OnUndefended):
    """Alone or in a crowd it answers otherwise."""

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        logits = self.model.forward(images, prompts)
        return logits if len(images) < 3 else logits.roll(1, 1)

    surrogate = forward


class WitnessSeeker(OnUndefended):
    """In a process that was not started by a parent it knows, it is another model."""

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        logits = self.model.forward(images, prompts)
        frame, attacked = sys._getframe(), False
        while frame is not None:
            attacked |= frame.f_code.co_name == "perturb"
            frame = frame.f_back  # type: ignore[assignment]
        return logits.roll(1, 1) if attacked and multiprocessing.parent_process() is not None else logits

    surrogate = forward
