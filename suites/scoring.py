"""What a defence answers to a batch of images. The labels stay outside: whoever asks compares.

A cell is scored by a witness (`witness.py`), in a process that never saw the attack; tests and probes ask here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from vlm_gauntlet.fixtures.draws import Draws
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.fixtures.records import Cost
from vlm_gauntlet.methods.base import Defence

from .metered import metered, total


@dataclass(frozen=True)
class Answers:
    """Answers to a batch.

    Args:
        classes: [calls, B], the class of the largest logit.
        logits: [B, K] of the first call.
        cost: of all calls together.
    """

    classes: Tensor
    logits: Tensor
    cost: Cost


class Scorer(Protocol):
    """Who asks the defence."""

    def score(self, images: Tensor, prompts: PromptSet, keys: Sequence[int], calls: Sequence[int]) -> Answers:
        """Asks once for each number in `calls`, on the streams of the samples' `keys`.

        Args:
            images: [B, 3, H, W] in [0,1].
            prompts: the classes.
            keys: one random key a sample.
            calls: numbers of the calls, as in `Draws`.
        """


@dataclass(frozen=True)
class InProcess:
    """Asks a defence in this process."""

    defence: Defence

    def score(self, images: Tensor, prompts: PromptSet, keys: Sequence[int], calls: Sequence[int]) -> Answers:
        """See Scorer."""
        with torch.no_grad(), metered(self.defence.backbone) as cost:
            logits = [self.defence(images, prompts, draws=Draws(tuple(keys), call)) for call in calls]
        return Answers(torch.stack([found.argmax(1) for found in logits]), logits[0], cost.frozen())


@dataclass(frozen=True)
class Rearranged:
    """Asks about a batch in another order and in two parts, so that neither place nor neighbours are the attack's.

    Args:
        scorer: who is asked.
        coupled: whether the answer depends on the batch by the method's own definition; it then stays whole.
    """

    scorer: Scorer
    coupled: bool = False

    def score(self, images: Tensor, prompts: PromptSet, keys: Sequence[int], calls: Sequence[int]) -> Answers:
        """See Scorer; the answers come back in the order of the images."""
        if self.coupled or len(images) < 3:
            return self.scorer.score(images, prompts, keys, calls)
        first = -(-2 * len(images) // 3)  # and nobody alone: whether a neighbour matters is asked apart
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(len(images)))
        parts = [
            self.scorer.score(images[part], prompts, [keys[i] for i in part.tolist()], calls)
            for part in order.tensor_split([first] if len(images) - first > 1 else [])
        ]
        back = order.argsort().to(images.device)
        return Answers(
            torch.cat([part.classes for part in parts], 1)[:, back],
            torch.cat([part.logits for part in parts])[back],
            total([part.cost for part in parts]),
        )
