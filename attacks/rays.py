"""RayS (Chen and Gu 2020, arXiv 2006.12792), L-inf: a search for the sign direction in which the boundary is nearest.

It reads the victim's class and nothing else, so that neither masked gradients nor strange logits stop it. Each sample
has a search of its own and makes one query a step, so that results do not depend on the batch. It draws no numbers.
"""

from fractions import Fraction
from typing import Annotated, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from .balls import per_sample, project
from .base import STRICT, Attack, AttackInfo, Number, Run


@dataclass(config=STRICT)
class RayS(Attack):
    """Flips ever smaller blocks of the direction's signs, keeps what brings the boundary nearer; stops inside eps.

    Args:
        queries: calls of the victim after the one that reads the clean class.
        tolerance: width at which a binary search on the radius ends (1e-3 in the paper), at most eps / 16.
    """

    info = AttackInfo(
        "rays",
        "Search for the sign direction with the nearest boundary: needs the class only",
        "Chen and Gu 2020, arXiv:2006.12792",
        ("linf",),
    )

    queries: Annotated[int, Field(ge=0, json_schema_extra={"reported": "steps"})] = 1000
    tolerance: Annotated[Number, Field(gt=0)] = Fraction(1, 1000)
    selection: Literal["any-iterate"] = "any-iterate"
    random_start: Literal[False] = False
    restarts: Literal[1] = 1
    reduction: Literal["sum"] = "sum"

    def perturb(self, run: Run) -> Tensor:
        """See Attack. Samples already misclassified are returned as they are; telemetry: the smallest `radius`."""
        best, radius = run.images.clone(), torch.zeros(run.labels.shape, device=run.images.device)
        with torch.no_grad():
            wrong = run.victim(run.images).argmax(1) != run.labels
            active = (~wrong).nonzero().squeeze(1)
            victim, rays = (
                run.victim.select(active),
                RaySearch(run.images[active], min(float(self.tolerance), self.eps / 16)),
            )
            for _ in range(self.queries):
                if len(active) == 0:
                    break
                proposed = rays.proposed()
                rays.learn(victim(proposed).argmax(1) != run.labels[active])
                if (inside := rays.best <= self.eps).any():
                    best[active[inside]], radius[active[inside]] = rays.image(rays.best)[inside], rays.best[inside]
                victim, active = victim.select((~inside).nonzero().squeeze(1)), active[~inside]
                rays.keep(~inside)
        if len(active):
            reached = project(rays.image(rays.best.clamp_max(self.eps)), rays.clean, norm=self.norm, eps=self.eps)
            best[active], radius[active] = reached, rays.best
        run.telemetry["radius"] = radius
        return best


class RaySearch:
    """The searches of a batch, all one query a step.

    Args:
        clean: images [B, 3, H, W].
        tolerance: see RayS.

    Attributes:
        sign: best direction [B, 3HW] of +-1.
        best: radius [B] at which the best direction is misclassified; infinite before the first success.
        attempt: the direction being tried [B, 3HW].
    """

    def __init__(self, clean: Tensor, tolerance: float) -> None:
        self.clean, self.tolerance = clean, tolerance
        self.sign = torch.ones_like(clean).flatten(1)
        self.best = clean.new_full((len(clean),), torch.inf)
        self.low = torch.zeros_like(self.best)  # largest radius known to be right, while `searching`
        self.searching = torch.zeros_like(self.best, dtype=torch.bool)
        self.level = torch.zeros_like(self.best, dtype=torch.long)
        self.block = torch.zeros_like(self.level)
        self.attempt = self._flipped()

    def radius(self) -> Tensor:
        """Where to ask next [B]: the middle of the search, or first whether the attempt does as well as the best."""
        return torch.where(self.searching, (self.low + self.best.clamp_max(1)) / 2, self.best.clamp_max(1))

    def proposed(self) -> Tensor:
        """The images [B, 3, H, W] to ask about."""
        return self._along(self.attempt, self.radius())

    def image(self, radius: Tensor) -> Tensor:
        """The images [B, 3, H, W] at these radii [B] along the best direction."""
        return self._along(self.sign, radius)

    def learn(self, wrong: Tensor) -> None:
        """Takes the answer: which of the proposed images [B] were misclassified."""
        radius = self.radius()
        nearer = wrong & (radius < self.best)
        self.sign = torch.where(nearer[:, None], self.attempt, self.sign)
        self.best = torch.where(nearer, radius, self.best)
        self.low = torch.where(self.searching & ~wrong, radius, self.low)
        self.searching = self.searching | wrong
        done = ~self.searching | (self.best - self.low <= self.tolerance)
        self._advance(done)

    def keep(self, which: Tensor) -> None:
        """Goes on with a part of the samples, `which` [B]."""
        for name in ("clean", "sign", "best", "low", "searching", "level", "block", "attempt"):
            setattr(self, name, getattr(self, name)[which])

    def _advance(self, done: Tensor) -> None:
        """The next block of these samples; after the last one, blocks of half the size."""
        self.block = self.block + done
        last = self._bounds()[0] >= self.sign.shape[1]
        self.level, self.block = self.level + last, torch.where(last, 0, self.block)
        self.low, self.searching = torch.where(done, 0.0, self.low), self.searching & ~done
        self.attempt = torch.where(done[:, None], self._flipped(), self.attempt)

    def _bounds(self) -> tuple[Tensor, Tensor]:
        size = (self.sign.shape[1] / 2.0**self.level).ceil().long()
        return self.block * size, (self.block + 1) * size

    def _flipped(self) -> Tensor:
        """The best direction with the signs of the current block turned."""
        start, end = (bound[:, None] for bound in self._bounds())
        place = torch.arange(self.sign.shape[1], device=self.sign.device)
        return torch.where((place >= start) & (place < end), -self.sign, self.sign)

    def _along(self, direction: Tensor, radius: Tensor) -> Tensor:
        return (self.clean + per_sample(radius, self.clean) * direction.view_as(self.clean)).clamp(0, 1)
