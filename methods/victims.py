"""A defence bound to a batch: what attacks and scoring see of it."""

from dataclasses import dataclass, field

from torch import Tensor

from vlm_gauntlet.fixtures.draws import Draws, key_of
from vlm_gauntlet.fixtures.prompts import PromptSet

from .base import Defence


@dataclass
class BoundDefence:
    """A Victim (attacks/base.py). Every call draws fresh noise from the samples' own streams.

    Args:
        defence: the defence.
        prompts: the classes.
        keys: one random key a sample.
        through: attack the defence's surrogate (straight-through gradients).
    """

    defence: Defence
    prompts: PromptSet
    keys: tuple[int, ...]
    through: bool = False
    _calls: int = field(default=0, init=False)

    def __call__(self, images: Tensor) -> Tensor:
        """Images [B, 3, H, W] -> logits [B, K]."""
        self._calls += 1
        return self.defence(images, self.prompts, draws=Draws(self.keys, self._calls), through=self.through)

    def select(self, index: Tensor) -> "BoundDefence":
        """The same defence for a part of the samples, on streams of its own."""
        keys = tuple(key_of(self.keys[i], self._calls) for i in index.tolist())
        return BoundDefence(self.defence, self.prompts, keys, self.through)
