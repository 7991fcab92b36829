"""DRA (Gao et al., ECCV 2024): SGA whose gradients are taken inside the triangle that its last iterates span.

From step 2 on, random convex combinations of the current, the clean and the previous image are looked at; the one whose
one-step image has the highest loss gives SGA's gradient, and that is applied at the current image. At the end,
sentences leave a mean of the clean, the attacked and the previous image. Written from that account of paper and code,
which leaves open, so assumed here: the combinations are uniform on the triangle; the step that ranks one starts at the
combination, is as long as any other and ends in the ball; ranking reads the image without its scaled copies; the
previous image of the text is the iterate before the last.
"""

from collections.abc import Sequence
from fractions import Fraction
from functools import partial
from typing import Annotated

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from vlm_gauntlet.fixtures.draws import Draws

from ..base import STRICT, AttackInfo, AttackResult, Number
from .ascent import slope
from .paired import Paired
from .sga import SGA


@dataclass(config=STRICT)
class DRA(SGA):
    """SGA, with a gradient from elsewhere and sentences that do not fit one image alone.

    Args:
        combinations: looked at in a step; 0: the gradient is taken at the current image, as SGA does.
        text_weights: of the similarity to the clean, the attacked and the previous image; (0, 1, 0) is SGA.
    """

    info = AttackInfo(
        "dra",
        "SGA whose gradients are taken between the clean image and the last two iterates, in the tower's features",
        "Gao et al., ECCV 2024",
        ("linf",),
        "both",
    )

    combinations: Annotated[int, Field(ge=0)] = 5
    text_weights: tuple[Number, Number, Number] = (Fraction(3, 5), Fraction(1, 5), Fraction(1, 5))

    def viewpoint(self, victim: Paired, here: Tensor, previous: Tensor, origin: Tensor, draws: Draws) -> Tensor:
        """See PairAscent."""
        best, highest = here, here.new_full((len(here),), -torch.inf)
        for weights in self._weights(here, draws).unbind(1):
            view = _mean(weights[..., None, None, None], (here, origin, previous))
            gradient, _ = slope(partial(self._away, victim), view)
            with torch.no_grad():
                value = self._away(victim, self._stepped(view, gradient, origin))
            better = value > highest
            best = torch.where(better[:, None, None, None], view, best)
            highest = torch.where(better, value, highest)
        return best

    def text_aim(self, victim: Paired, origin: Tensor, result: AttackResult) -> Tensor:
        """See PairAscent. The similarity to a mean of features is the mean of the similarities."""
        assert result.previous is not None  # every PairAscent tells it
        features = [victim.features(images) for images in (origin, result.images, result.previous)]
        return _mean(features[0].new_tensor([float(weight) for weight in self.text_weights])[None, :, None], features)

    def _weights(self, images: Tensor, draws: Draws) -> Tensor:
        """Uniform on the simplex [B, combinations, 3]: the pieces of [0,1], cut at two uniform points."""
        ends = images.new_zeros(len(images), self.combinations, 1)
        cuts = draws.uniform(ends.expand(-1, -1, 2), 0, 1).sort(-1).values
        return torch.diff(cuts, prepend=ends, append=ends + 1)


def _mean(weights: Tensor, parts: Sequence[Tensor]) -> Tensor:
    """Weights [B or 1, n, 1, ...] and n tensors [B, ...] -> their weighted sum [B, ...]."""
    weighted = [weight * part for weight, part in zip(weights.unbind(1), parts, strict=True)]
    return sum(weighted[1:], start=weighted[0])
