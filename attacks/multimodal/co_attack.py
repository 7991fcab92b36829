"""Co-Attack on CLIP (Zhang et al. 2022, arXiv:2206.09391): the image leaves both itself and its attacked sentence."""

from fractions import Fraction
from typing import ClassVar

from pydantic.dataclasses import dataclass
from torch import Tensor

from vlm_gauntlet.fixtures.draws import Draws

from ..base import STRICT, AttackInfo, Number
from ..text.objectives import kl
from .ascent import PairAscent
from .paired import Paired


@dataclass(config=STRICT)
class CoAttack(PairAscent):
    """KL(image || attacked image) + alpha KL(attacked sentence || attacked image), unit features read as logits.

    Args:
        alpha: weight of the sentence; 0: the image-only attack of the same family, the image side of Sep-Attack.
    """

    aims_text: ClassVar[bool] = False

    info = AttackInfo(
        "co-attack",
        "Images driven away from themselves and from their attacked sentence, in the tower's features",
        "Zhang et al. 2022, arXiv:2206.09391",
        ("linf",),
        "both",
    )

    step_size: Number = Fraction(1, 8)  # 1.25 / 10 steps
    alpha: Number = Fraction(3)

    def guide(self, sentences: Tensor) -> Tensor:
        """See PairAscent. The last: published code attacks an image once for each caption and keeps the last image."""
        return sentences[-1]

    def loss(self, victim: Paired, images: Tensor, clean: Tensor, draws: Draws) -> Tensor:
        """See PairAscent."""
        features = victim.features(images).double()
        return kl(clean.double(), features) + float(self.alpha) * kl(victim.guides.double(), features)
