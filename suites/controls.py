"""Controls: runs whose right answer is known. A night whose controls are wrong says nothing."""

import torch
from torch import Tensor

from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.fixtures.records import Outcome
from vlm_gauntlet.methods.base import Defence

from .cells import CellPlan, plan
from .tiers import Tier

UNDEFENDED_AT_MOST = 0.03


class GradientMaskingDummy(Defence):
    """The undefended model behind a cut graph: useless, yet robust against any attack that trusts its gradient."""

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        """See Defence."""
        with torch.no_grad():
            return self.backbone(images, prompts)


DUMMY = f"{GradientMaskingDummy.__module__}:{GradientMaskingDummy.__name__}"


def control_plan(
    tier: Tier, method: str, protocol: str, *, dataset: str, device: str, limit: int | None = None
) -> CellPlan:
    """One control cell of a tier, on as many samples as its other cells."""
    (made,) = plan(
        [method], tier.backbone, [dataset], [protocol],
        limit=limit or tier.limit, seed=tier.seed, device=device, batch_size=tier.batch_size,
    )  # fmt: skip
    return made


def survivors_allowed(n: int) -> int:
    """How many of n samples may survive where everything should break: 3 %, but one sample at the least."""
    return max(1, int(UNDEFENDED_AT_MOST * n))


def survivors(outcome: Outcome) -> int:
    """Samples that were right in any scoring draw under attack."""
    return sum(sample.robust > 0 for sample in outcome.samples)


def fired(outcome: Outcome) -> set[str]:
    """Names of the indicators that fired."""
    return {indicator.name for indicator in outcome.indicators if indicator.fired}
