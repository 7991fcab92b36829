"""Random starts alone: the control that shows what an attack owes to its gradient."""

from dataclasses import dataclass

import torch
from torch import Tensor

from vlm_gauntlet.fixtures.draws import Draws

from .balls import per_sample, project
from .base import Attack, Run
from .losses import margin


@dataclass
class Noise(Attack):
    """The worst of some uniform draws from the L-inf ball, by margin.

    Args:
        queries: draws; 14 is what APGD-CE with five restarts and nine targets of APGD-T draw between them.
    """

    queries: int = 14

    def perturb(self, run: Run) -> Tensor:
        """See Attack."""
        best, score = run.images.clone(), torch.full(run.labels.shape, -torch.inf, device=run.images.device)
        with torch.no_grad():
            for call in range(self.queries):
                noise = Draws(run.keys, call).uniform(run.images, -self.eps, self.eps)
                drawn = project(run.images + noise, run.images, norm=self.norm, eps=self.eps)
                values = margin(run.victim(drawn).float(), run.labels)
                best = torch.where(per_sample(values > score, best), drawn, best)
                score = torch.maximum(score, values)
        return best
