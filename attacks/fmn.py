"""FMN (Pintor et al. 2021, arXiv 2102.12827): the smallest perturbation, by steps in a ball that shrinks and grows.

Our own: adv-lib 0.2.8 needs a plotting server, foolbox 3.3.4 pins what conflicts with ours, neither averages over
draws, and in L2 neither projects onto the ball (adv-lib: onto the sphere; foolbox: not at all). One deviation: see
`first_reach`.
"""

import math
from fractions import Fraction
from typing import Annotated, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from .adaptive.eot import input_gradient
from .balls import lp_norm, per_sample, project
from .base import STRICT, AttackInfo, Number, Run
from .gradients import GradientAttack
from .losses import margin

FINAL_STEP = 0.01  # of the first one, as the authors' code has it
FINAL_CHANGE = 0.001  # of the ball's radius


@dataclass(config=STRICT)
class FMN(GradientAttack):
    """Minimises the distance; what was found is projected onto the ball, so that only a distance within eps breaks.

    Args:
        steps: gradient steps.
        step_size: length of the first step in the L2 norm, whatever the ball: not a fraction of eps, which the search
            does not know. It falls to a hundredth along half a cosine.
        change: by which share the ball first shrinks or grows in a step; falls to 0.001 alike.
    """

    info = AttackInfo(
        "fmn",
        "Fast minimum-norm attack: normalised steps in a ball that adapts to the nearest boundary found",
        "Pintor et al. 2021, arXiv:2102.12827",
    )

    steps: Annotated[int, Field(ge=1)] = 100
    step_size: Annotated[Number, Field(gt=0)] = Fraction(1)
    change: Annotated[Number, Field(gt=0, lt=1)] = Fraction(1, 20)
    loss: Literal["margin"] = "margin"
    selection: Literal["any-iterate"] = "any-iterate"
    random_start: Literal[False] = False
    restarts: Literal[1] = 1
    reduction: Literal["sum"] = "sum"

    def perturb(self, run: Run) -> Tensor:
        """See Attack. Telemetry: the smallest `radius`, infinite where no step was misclassified.

        Such a sample returns where the steps led, stretched to the whole of eps.
        """
        clean = images = run.images
        farthest = lp_norm(torch.maximum(clean, 1 - clean), self.norm)
        best, radius = clean.clone(), torch.full_like(farthest, torch.inf)
        ball, lost = radius.clone(), torch.zeros_like(run.labels, dtype=torch.bool)
        for step in range(self.steps):
            share = (1 + math.cos(math.pi * step / self.steps)) / 2
            length = float(self.step_size) * (FINAL_STEP + (1 - FINAL_STEP) * share)
            change = FINAL_CHANGE + (float(self.change) - FINAL_CHANGE) * share
            gradient, values, wrong = input_gradient(run.victim, images, run.labels, margin, draws=self.eot)
            if step == 0:
                run.telemetry["gradient_norm"] = lp_norm(gradient, "l2")
            lost |= ~torch.isfinite(gradient).flatten(1).all(1)
            gradient = gradient.nan_to_num(0.0, 0.0, 0.0)
            distance = lp_norm(images - clean, self.norm)
            nearer = wrong & (distance < radius)
            best = torch.where(per_sample(nearer, best), images, best)
            radius = torch.where(nearer, distance, radius)
            estimated = distance + values.abs().nan_to_num(0.0, 0.0) / self._dual(gradient).clamp_min(1e-12)
            grown = ball * (1 + change) if step else torch.zeros_like(ball)
            outward = torch.where(radius.isfinite(), grown, self.first_reach(grown, estimated))
            ball = torch.where(wrong, torch.minimum(ball * (1 - change), radius), outward).clamp_max(farthest)
            moved = images + length * gradient / per_sample(lp_norm(gradient, "l2").clamp_min(1e-12), gradient)
            images = self.within(moved, clean, ball)
        run.telemetry |= {"radius": radius, "nan_gradient": lost.float()}
        stretch = self.eps / lp_norm(images - clean, self.norm).clamp_min(1e-12)
        guess = clean + (images - clean) * per_sample(stretch, clean)
        found = torch.where(per_sample(radius.isfinite(), best), best, guess)
        return project(found, clean, norm=self.norm, eps=self.eps)

    def first_reach(self, grown: Tensor, estimated: Tensor) -> Tensor:
        """The next ball [B] while nothing is misclassified: the larger of the estimate and the last ball grown.

        Published is the estimate alone; it gains nothing where the box cuts what the ball allows, or at the boundary.
        """
        return torch.maximum(grown, estimated)

    def _dual(self, gradient: Tensor) -> Tensor:
        """Norm [B] by which a linear loss rises along a step of length 1 of the ball's norm."""
        return gradient.abs().flatten(1).sum(1) if self.norm == "linf" else lp_norm(gradient, "l2")

    def within(self, images: Tensor, clean: Tensor, ball: Tensor) -> Tensor:
        """Images [B, 3, H, W] projected onto each sample's own ball [B] and the box."""
        radius = per_sample(ball, clean)
        if self.norm == "linf":
            return images.clamp(clean - radius, clean + radius).clamp(0, 1)
        length = per_sample(lp_norm(images - clean, "l2").clamp_min(1e-12), clean)
        return (clean + (images - clean) * (radius / length).clamp_max(1)).clamp(0, 1)
