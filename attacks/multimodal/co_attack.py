"""Co-Attack on CLIP (Zhang et al. 2022, arXiv:2206.09391): the image leaves both itself and its attacked sentence."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from vlm_gauntlet.fixtures.draws import Draws

from ..text.objectives import kl
from .ascent import PairAscent
from .paired import Paired

STEPS = 10


@dataclass
class CoAttack(PairAscent):
    """KL(image || attacked image) + alpha KL(attacked sentence || attacked image), unit features read as logits.

    Args:
        alpha: weight of the sentence; 0: the image-only attack of the same family, the image side of Sep-Attack.
    """

    aims_text: ClassVar[bool] = False

    steps: int = STEPS
    step_size: float = 1.25 / STEPS
    alpha: float = 3.0

    def guide(self, sentences: Tensor) -> Tensor:
        """See PairAscent. The last: published code attacks an image once for each caption and keeps the last image."""
        return sentences[-1]

    def loss(self, victim: Paired, images: Tensor, clean: Tensor, draws: Draws) -> Tensor:
        """See PairAscent."""
        features = victim.features(images).double()
        return kl(clean.double(), features) + self.alpha * kl(victim.guides.double(), features)
