"""A defence bound to a batch: what attacks and scoring see of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from vlm_gauntlet.fixtures.draws import Draws, key_of
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.fixtures.protocols import Gradient

from .base import Defence


@dataclass
class BoundDefence:
    """A Victim (attacks/base.py). Every call draws noise from the samples' own streams.

    Args:
        defence: the defence.
        prompts: the classes.
        keys: one random key a sample.
        gradient: whose gradient the attacker gets (Defence.__call__).
        period: the streams repeat after so many calls, so that EOT over as many draws has a fixed objective;
            0: always fresh.
    """

    defence: Defence
    prompts: PromptSet
    keys: tuple[int, ...]
    gradient: Gradient = "direct"
    period: int = 0
    _calls: int = field(default=0, init=False)
    _last: tuple[Tensor, int, Tensor] | None = field(default=None, init=False, repr=False)

    def __call__(self, images: Tensor) -> Tensor:
        """Images [B, 3, H, W] -> logits [B, K]."""
        self._calls += 1
        logits = self.defence(images, self.prompts, draws=self._draws(), gradient=self.gradient)
        self._last = (images, images._version, logits) if self._repeats(images) else None
        return logits

    def recall(self, images: Tensor) -> Tensor | None:
        """The logits [B, K] of the last call, if a call now on these images would give the same bits; else None.

        That is so of a defence without randomness and state, without a graph (with one, torch takes other kernels)
        and outside autocast.
        """
        if self._last is None or not self._repeats(images):
            return None
        asked, version, logits = self._last
        return logits if asked._version == version and torch.equal(asked, images) else None

    def _repeats(self, images: Tensor) -> bool:
        """Whether the same call, made again, has the same bits."""
        card, plain = self.defence.card, not torch.is_grad_enabled()
        return plain and not (card.randomised or card.keeps_state or torch.is_autocast_enabled(images.device.type))

    def gate_margin(self, images: Tensor) -> Tensor:
        """See Defence.gate_margin; on the streams of the last call."""
        return self.defence.gate_margin_on(images, self.prompts, self._draws())

    def branch_logits(self, images: Tensor) -> Sequence[tuple[float, Tensor]]:
        """See Defence.branch_logits; on streams of their own."""
        self._calls += 1
        return self.defence.branch_logits_on(images, self.prompts, self._draws())

    def select(self, index: Tensor) -> "BoundDefence":
        """The same defence for a part of the samples, on streams of its own."""
        keys = tuple(key_of(self.keys[i], self._calls) for i in index.tolist())
        return BoundDefence(self.defence, self.prompts, keys, self.gradient, self.period)

    def _draws(self) -> Draws:
        return Draws(self.keys, 1 + (self._calls - 1) % self.period if self.period else self._calls)
