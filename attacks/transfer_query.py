"""Images transferred from every model at hand, then queries on what still stands; no gradient of the defence.

What a defence that hides its gradient cannot hide: Papernot et al. 2017 transfer, Andriushchenko et al. 2020 and Chen
and Gu 2020 query. A transferred image that almost works is where the search begins.
"""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from vlm_gauntlet.fixtures.draws import Draws

from .base import STRICT, Attacked, AttackInfo, Context, Run, Victim
from .losses import margin
from .pgd import PGD
from .rays import RayS
from .square import Square


@dataclass(config=STRICT)
class TransferQuery(Square):
    """PGD on each source, the best image of each sample, then random squares from there.

    Samples whose margin no query moves, as where logits are saturated, are searched by the class alone (RayS).

    Args:
        steps: of PGD on each source.
        queries: of the search, the transferred images not counted; once more for samples without a margin.
    """

    info = AttackInfo(
        "transfer-query",
        "Transfer from the undefended, the tuned and the defence's own models, then a search by queries",
        "Papernot et al. 2017, arXiv:1602.02697; Andriushchenko et al. 2020, arXiv:1912.00049",
        ("linf",),
    )

    transfers = True
    _sources: ClassVar[Mapping[str, Victim]] = {}  # of the batch in hand; without a context there are none

    steps: Annotated[int, Field(ge=1)] = 20
    queries: Annotated[int, Field(ge=0, json_schema_extra={"reported": "queries"})] = 500
    labels: Literal["true"] = "true"

    def attack_batch(self, context: Context) -> Attacked:
        """See Attack."""
        object.__setattr__(self, "_sources", context.sources())
        return Attacked(self(context.victim(), context.images, context.labels, context.keys))

    def perturb(self, run: Run) -> Tensor:
        """See Attack. Telemetry: `transferred`, broken by a transferred image; `mute`, no query moved the margin."""
        best, score = self._transferred(run)
        run.telemetry["transferred"] = (score > 0).float()
        best, score, mute = self._searched(run, best, score)
        run.telemetry["mute"] = mute.float()
        if (rest := (mute & (score <= 0)).nonzero().squeeze(1)).numel():
            keys = tuple(run.keys[i] for i in rest.tolist())
            by_class = RayS(self.norm, self.eps, queries=self.queries)
            found = by_class(run.victim.select(rest), run.images[rest], run.labels[rest], keys)
            best[rest[found.success]] = found.images[found.success]
        return best

    def _transferred(self, run: Run) -> tuple[Tensor, Tensor]:
        """The transferred image of each sample that goes furthest [B, 3, H, W], and its margin [B].

        A sample that an image breaks meets no further source.
        """
        best, score = run.images.clone(), self._margin(run.victim, run.images, run.labels)
        for source in self._sources.values():
            active = (score <= 0).nonzero().squeeze(1)
            if len(active) == 0:
                break
            images, labels, keys = run.images[active], run.labels[active], tuple(run.keys[i] for i in active.tolist())
            made = PGD(self.norm, self.eps, steps=self.steps)(source.select(active), images, labels, keys).images
            values = self._margin(run.victim.select(active), made, labels)
            further = values > score[active]
            best[active[further]], score[active[further]] = made[further], values[further]
        return best, score

    def _searched(self, run: Run, best: Tensor, score: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Squares on samples that stand: images, margins, and whose margin never moved [B]."""
        active = (score <= 0).nonzero().squeeze(1)
        victim, mute = run.victim.select(active), torch.full_like(run.labels, self.queries > 0, dtype=torch.bool)
        for query in range(1, self.queries + 1):
            if len(active) == 0:
                break
            keys = tuple(run.keys[i] for i in active.tolist())
            proposed = self._propose(run.images[active], best[active], Draws(keys, query), query)
            values = self._margin(victim, proposed, run.labels[active])
            mute[active] &= values == score[active]
            better = values > score[active]
            best[active[better]], score[active[better]] = proposed[better], values[better]
            stands = values <= 0
            victim, active = victim.select(stands.nonzero().squeeze(1)), active[stands]
        return best, score, mute

    @staticmethod
    def _margin(victim: Victim, images: Tensor, labels: Tensor) -> Tensor:
        with torch.no_grad():
            return margin(victim(images).float(), labels)
