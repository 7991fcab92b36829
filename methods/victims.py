"""A defence bound to a batch: what attacks and scoring see of it."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from vlm_gauntlet.fixtures.draws import Draws, key_of
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.fixtures.protocols import Gradient

from .base import Defence


@dataclass(frozen=True)
class Call:
    """One call that an attack made: images [B, 3, H, W], the streams of its draws, and the logits [B, K] that came."""

    images: Tensor
    prompts: PromptSet
    draws: Draws
    logits: Tensor


@dataclass
class Recorder:
    """Keeps the last call and some that nobody can foretell, so that they can be asked again elsewhere.

    Args:
        chosen: how many, besides the last one.
    """

    chosen: int = 2
    kept: list[Call] = field(default_factory=list, init=False)
    last: Call | None = field(default=None, init=False)
    _seen: int = field(default=0, init=False)

    def see(self, call: Call) -> None:
        """Looks at a call; each has the same chance to be kept (reservoir sampling)."""
        self.last, self._seen = call, self._seen + 1
        if len(self.kept) < self.chosen:
            self.kept.append(call)
        elif (place := secrets.randbelow(self._seen)) < self.chosen:
            self.kept[place] = call

    @property
    def calls(self) -> list[Call]:
        """What was kept, without doubles."""
        last = [self.last] if self.last is not None and all(c is not self.last for c in self.kept) else []
        return [*self.kept, *last]


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
        recorder: sees each call, if there is one.
    """

    defence: Defence
    prompts: PromptSet
    keys: tuple[int, ...]
    gradient: Gradient = "direct"
    period: int = 0
    recorder: Recorder | None = None
    _calls: int = field(default=0, init=False)
    _last: tuple[Tensor, int, Tensor] | None = field(default=None, init=False, repr=False)

    def __call__(self, images: Tensor) -> Tensor:
        """Images [B, 3, H, W] -> logits [B, K]."""
        self._calls += 1
        logits = self.defence(images, self.prompts, draws=self._draws(), gradient=self.gradient)
        if self.recorder is not None:
            self.recorder.see(Call(images.detach(), self.prompts, self._draws(), logits.detach()))
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
        return BoundDefence(self.defence, self.prompts, keys, self.gradient, self.period, self.recorder)

    def _draws(self) -> Draws:
        return Draws(self.keys, 1 + (self._calls - 1) % self.period if self.period else self._calls)
