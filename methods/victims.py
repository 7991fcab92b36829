"""A defence bound to a batch: what attacks and scoring see of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

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

    def __call__(self, images: Tensor) -> Tensor:
        """Images [B, 3, H, W] -> logits [B, K]."""
        self._calls += 1
        return self.defence(images, self.prompts, draws=self._draws(), gradient=self.gradient)

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
