"""Controls: runs whose right answer is known. A night whose controls are wrong says nothing."""

import torch
from scipy.stats import binom
from torch import Tensor

from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.fixtures.records import Outcome
from vlm_gauntlet.methods.base import Defence

from .cells import CellPlan, plan
from .tiers import Tier

UNDEFENDED_AT_MOST = 0.03
KNOWS_AT_LEAST = 0.4
CHANCE = 0.01


class GradientMaskingDummy(Defence):
    """The undefended model behind a cut graph: useless, yet robust against any attack that trusts its gradient."""

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        """See Defence."""
        with torch.no_grad():
            return self.backbone(images, prompts)


DUMMY = f"{GradientMaskingDummy.__module__}:{GradientMaskingDummy.__name__}"


def control_plan(
    tier: Tier, method: str, protocol: str, *, dataset: str, device: str, seed: int, limit: int | None = None
) -> CellPlan:
    """One control cell of a tier, on as many samples as its other cells."""
    (made,) = plan(
        [method], tier.backbone, [dataset], [protocol],
        limit=limit or tier.limit, seed=seed, device=device, batch_size=tier.batch_size,
    )  # fmt: skip
    return made


def right(outcome: Outcome) -> int:
    """Samples that were right in any scoring draw without attack."""
    return sum(sample.clean > 0 for sample in outcome.samples)


def knows_too_little(found: int, n: int) -> bool:
    """Whether so few right answers of n show that the model knows nothing: then nothing follows from what breaks.

    Fires where a model with an accuracy of 40 %, less than any backbone here has, gives so few once in a hundred times.
    A few samples can never show it: two right of four are what such a model often gives.
    """
    return bool(binom.cdf(found, n, KNOWS_AT_LEAST) < CHANCE)


def survivors_allowed(n: int) -> int:
    """How many of n samples may survive where everything should break.

    A model of which 3 % survive gives more only once in a hundred times: 1 of 4, 3 of 16 and of 24, 25 of 500.
    """
    return int(binom.ppf(1 - CHANCE, n, UNDEFENDED_AT_MOST))


def survivors(outcome: Outcome) -> int:
    """Samples that were right in any scoring draw under attack."""
    return sum(sample.robust > 0 for sample in outcome.samples)


def fired(outcome: Outcome) -> set[str]:
    """Names of the indicators that fired."""
    return {indicator.name for indicator in outcome.indicators if indicator.fired}
