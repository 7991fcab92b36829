"""What an attack on pairs sees of a model: features, and the sentences that belong to each image."""

from collections.abc import Callable
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from vlm_gauntlet.fixtures.backbone import Backbone


@dataclass
class Paired:
    """A tower as a Victim (attacks/base.py) that also shows features.

    Args:
        tower: whose image features the attacker reads.
        guides: [B, D], what each image's attacked sentences say (`PairAscent.guide`).
        decide: unit features [B, D] -> logits [B, K]; says when an attack succeeded, and guides no step.
    """

    tower: Backbone
    guides: Tensor
    decide: Callable[[Tensor], Tensor]

    def features(self, images: Tensor) -> Tensor:
        """Images [B, 3, H, W] -> features [B, D] of unit length."""
        return F.normalize(self.tower.encode_image(images), dim=-1)

    def __call__(self, images: Tensor) -> Tensor:
        """See Victim."""
        return self.decide(self.features(images))

    def select(self, index: Tensor) -> "Paired":
        """See Victim."""
        return Paired(self.tower, self.guides[index], self.decide)
