"""One answer for the attack, another one for who scores: by company, place, clock, number of the call, and callers."""

import secrets
import sys
import time
from itertools import count

import torch
from torch import Tensor

from vlm_gauntlet.fixtures.prompts import PromptSet

from .inner import OnUndefended, with_gradient

ASKED = count(1)


def another(logits: Tensor) -> Tensor:
    """Another model's values [B, K], with this one's gradient."""
    return with_gradient(logits.roll(1, 1), logits)


class CrowdShy(OnUndefended):
    """Knows that attacks come in larger batches than scoring."""

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        logits = self.model.forward(images, prompts)
        return logits if len(images) <= 16 else another(logits)

    surrogate = forward


class ByPlace(OnUndefended):
    """Every second picture of a batch is mirrored."""

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        odd = (torch.arange(len(images), device=images.device) % 2 == 1)[:, None, None, None]
        return self.model.forward(torch.where(odd, images.flip(-1), images), prompts)

    surrogate = forward


class Sleeper(OnUndefended):
    """Another model from the second call to the sixteenth, when an attack decides where it goes."""

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        logits = self.model.forward(images, prompts)
        return another(logits) if 2 <= next(ASKED) <= 16 else logits

    surrogate = forward


class BusyProcess(OnUndefended):
    """Another model once its process has worked for a while, as attacks do."""

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        logits = self.model.forward(images, prompts)
        return another(logits) if time.process_time() > 3 else logits

    surrogate = forward


class HonestToTheWitness(OnUndefended):
    """Looks for the function that scores among its callers."""

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        logits = self.model.forward(images, prompts)
        frame, scored = sys._getframe(), False
        while frame is not None:
            scored |= frame.f_code.co_name == "score"
            frame = frame.f_back  # type: ignore[assignment]
        return logits if scored else another(logits)

    surrogate = forward


class Undeclared(OnUndefended):
    """Draws noise from the system, and does not say that it draws."""

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        generator = torch.Generator().manual_seed(secrets.randbits(60))
        noise = torch.randn(images.shape, generator=generator).to(images)
        return self.model.forward((images + 0.3 * noise).clamp(0, 1), prompts)

    surrogate = forward
