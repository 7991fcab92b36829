"""Square Attack (Andriushchenko et al. 2020, arXiv 1912.00049), L-inf: random squares, kept when they help.

It asks the victim for logits alone, so that masked gradients do not stop it. Our own, because the official code
shares one square among the whole batch, which makes results depend on the batch.
"""

import math
from typing import Annotated, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from vlm_gauntlet.fixtures.draws import Draws

from .balls import project
from .base import STRICT, Attack, AttackInfo, Run
from .gradients import UNSTATED
from .losses import margin

# Queries, of 10,000, at which the squares shrink to half their area (the official schedule).
HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)


@dataclass(config=STRICT)
class Square(Attack):
    """Random search on the margin; a sample leaves at its first success.

    Args:
        queries: calls of the victim, the start included.
        p: fraction of the picture's area that the first squares cover.
        stretched: the schedule, written for 10,000 queries, is stretched to `queries`; AutoAttack runs its first part.
        places: where a square may lie: at all places of the picture, or `as_published`, where the draw of the official
            code is one short and no square touches the last row or column.
    """

    info = AttackInfo(
        "square",
        "Random search with squares on the margin: needs logits only, the fourth part of AutoAttack",
        "Andriushchenko et al. 2020, arXiv:1912.00049",
        ("linf",),
    )

    queries: Annotated[int, Field(ge=0, json_schema_extra={"reported": "steps"})] = 1000
    p: float = 0.8
    stretched: bool = True
    places: Annotated[Literal["all", "as_published"], Field(json_schema_extra=UNSTATED)] = "all"
    loss: Literal["margin"] = "margin"
    selection: Literal["any-iterate"] = "any-iterate"
    random_start: Literal[True] = True
    restarts: Literal[1] = 1
    reduction: Literal["sum"] = "sum"

    def perturb(self, run: Run) -> Tensor:
        """See Attack. Samples already misclassified are returned as they are."""
        with torch.no_grad():
            wrong = run.victim(run.images).argmax(1) != run.labels
            active = (~wrong).nonzero().squeeze(1)
            best, score = run.images.clone(), torch.full(run.labels.shape, -torch.inf, device=run.images.device)
            victim = run.victim.select(active)
            for query in range(self.queries):
                if len(active) == 0:
                    break
                clean, keys = run.images[active], tuple(run.keys[i] for i in active.tolist())
                proposed = self._propose(clean, best[active], Draws(keys, query), query)
                values = margin(victim(proposed).float(), run.labels[active])
                better = values > score[active]
                best[active[better]], score[active[better]] = proposed[better], values[better].to(score)
                stands = values <= 0
                victim, active = victim.select(stands.nonzero().squeeze(1)), active[stands]
        return best

    def _propose(self, clean: Tensor, best: Tensor, draws: Draws, query: int) -> Tensor:
        """First vertical stripes of +-eps, then one square of +-eps a channel at a random place of each image."""
        count, channels, height, width = clean.shape
        if query == 0:
            stripes = draws.uniform(clean.new_empty(count, channels, 1, width), -1, 1).sign()
            return project(clean + self.eps * stripes, clean, norm=self.norm, eps=self.eps)
        side = self._side(query, height, width)
        place = draws.uniform(clean.new_empty(count, 2), 0, 1)
        colours = draws.uniform(clean.new_empty(count, channels), -1, 1).sign()[:, :, None, None]
        rows, columns = (
            torch.arange(room, device=clean.device) - (place[:, axis, None] * self._places(room, side)).floor()
            for axis, room in enumerate((height, width))
        )
        inside = ((rows >= 0) & (rows < side))[:, None, :, None] & ((columns >= 0) & (columns < side))[:, None, None, :]
        proposed = torch.where(inside, clean + self.eps * colours, best)
        return project(proposed, clean, norm=self.norm, eps=self.eps)

    def _places(self, room: int, side: int) -> int:
        """How many places a square of this side has along `room` pixels; the official draw leaves out the last."""
        places = room - side + 1
        return places if self.places == "all" else max(places - 1, 1)

    def _side(self, query: int, height: int, width: int) -> int:
        """Side of the square at a query: p halves at the schedule's points."""
        length = self.queries if self.stretched else 10_000
        passed = sum(10_000 * query / length > point for point in HALVINGS)
        area = self.p / 2**passed * height * width
        return min(max(round(math.sqrt(area)), 1), height, width)
