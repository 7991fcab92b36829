"""Random starts alone: the control that shows what an attack owes to its gradient."""

from typing import Annotated, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from vlm_gauntlet.fixtures.draws import Draws

from .balls import per_sample, random_point
from .base import STRICT, Attack, AttackInfo, Run
from .losses import margin


@dataclass(config=STRICT)
class Noise(Attack):
    """The worst of some uniform draws from the L-inf ball, by margin.

    Args:
        queries: draws; 14 is what APGD-CE with five restarts and nine targets of APGD-T draw between them.
    """

    info = AttackInfo(
        "noise",
        "The worst of a few random starts: a control, what an attack does without its gradient",
        "after Athalye et al. 2018, arXiv:1802.00420, section 3.1",
        ("linf",),
    )

    queries: Annotated[int, Field(ge=0, json_schema_extra={"reported": "steps"})] = 14
    loss: Literal["margin"] = "margin"
    selection: Literal["any-iterate"] = "any-iterate"
    random_start: Literal[True] = True
    restarts: Literal[1] = 1
    reduction: Literal["sum"] = "sum"

    def perturb(self, run: Run) -> Tensor:
        """See Attack."""
        best, score = run.images.clone(), torch.full(run.labels.shape, -torch.inf, device=run.images.device)
        with torch.no_grad():
            for call in range(self.queries):
                drawn = random_point(run.images, Draws(run.keys, call), norm=self.norm, eps=self.eps)
                values = margin(run.victim(drawn).float(), run.labels)
                best = torch.where(per_sample(values > score, best), drawn, best)
                score = torch.maximum(score, values)
        return best
