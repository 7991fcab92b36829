"""The samples that still stand in an attack by rounds: their best images, and whether their curves are flat."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..balls import per_sample
from ..base import Run, Victim
from .routes import Routes, Seen, judged

REACH = (
    6.0  # a curve is quiet where two doublings more would not take the sample if its gain grew with the steps: 2 + 4
)
NEAR = 0.25  # of all that was climbed: with less than that to go, one quiet round is not enough


@dataclass
class Standing:
    """What stands, and how firmly.

    An image is better than another if it is wrong in more of the round's looks; then, if its margin is higher.

    Args:
        run: the batch.
        routes: the victim, at first for all samples, later for the active ones.
        looks: draws in which an image is judged, the same for all images of a round.
    """

    run: Run
    routes: Routes
    looks: int
    best: Tensor = field(init=False)
    active: Tensor = field(init=False)
    flat: Tensor = field(init=False)
    rounds: Tensor = field(init=False)
    quiet: Tensor = field(init=False)
    found: Seen = field(init=False)

    def __post_init__(self) -> None:
        labels = self.run.labels
        self.best, self.active = self.run.images.clone(), torch.arange(len(labels), device=labels.device)
        self.flat, self.rounds = torch.zeros_like(labels, dtype=torch.bool), torch.zeros_like(labels)
        self._all = self.routes
        self.quiet, self._foot = torch.zeros_like(labels), torch.full(labels.shape, torch.nan, device=labels.device)

    @property
    def images(self) -> Tensor:
        """Clean images of the active samples."""
        return self.run.images[self.active]

    @property
    def labels(self) -> Tensor:
        """True classes of the active samples."""
        return self.run.labels[self.active]

    @property
    def keys(self) -> tuple[int, ...]:
        """Random keys of the active samples."""
        return tuple(self.run.keys[i] for i in self.active.tolist())

    def open(self) -> None:
        """Begins a round on new draws: the best images are judged again, those too that only luck let fall."""
        everyone = torch.arange(len(self.run.labels), device=self.active.device)
        self._all = self._all.select(everyone)
        if self.looks > 1:
            self.active = (~self.flat).nonzero().squeeze(1)
        self.routes, self._places = self._all.select(self.active), torch.arange(len(self.active)).to(self.active)
        self._judges = self._looks()
        self._before = self.found = judged(self._judges, self._places, self.best[self.active], self.labels)
        self._foot[self.active] = torch.where(self.rounds[self.active] == 0, self.found.height, self._foot[self.active])
        self.rounds[self.active] += 1
        self._keep(self.found.stays > 0)

    def offer(self, images: Tensor) -> None:
        """Takes images [A, 3, H, W] of the active samples where they are better; who falls is active no longer."""
        seen = judged(self._judges, self._places, images, self.labels, self.found)
        better = seen.beats(self.found)
        self.best[self.active] = torch.where(per_sample(better, images), images, self.best[self.active])
        self.found = self.found.taken(better, seen)
        self._keep(self.found.stays > 0)

    def close(self, *, comparable: bool) -> None:
        """Ends a round: where it gained too little the curve is flat, and nothing more is spent on the sample.

        Near the boundary two rounds must be quiet: there another start may still get over it.

        Args:
            comparable: whether a round of half the budget came before.
        """
        if not comparable:
            return
        stays, height = self.found.stays, self.found.height
        gained, risen = (self._before.stays - stays).float(), height - self._before.height
        quiet = (REACH * gained < stays) & ((height >= 0) | (REACH * risen < -height))
        self.quiet[self.active] = torch.where(quiet, self.quiet[self.active] + 1, 0)
        near = -height < NEAR * (height - self._foot[self.active])
        flat = self.quiet[self.active] >= 1 + near.long()
        self.flat[self.active[flat]] = True
        self._keep(~flat)

    @property
    def converged(self) -> Tensor:
        """Samples [B] that fell or whose curve is flat."""
        told = torch.ones_like(self.flat)
        told[self.active] = False
        return told | self.flat

    def _looks(self) -> list[Victim]:
        """The judge of the active samples once for each look, on streams of their own."""
        if self.looks > 1:  # one call, so that the looks are not at the draws that the gradients see
            with torch.no_grad():
                self._all.judge(self.best)
        judge = self._all.judge.select(self.active)
        judges = [judge]
        while len(judges) < self.looks:
            judges.append(judges[-1].select(self._places))
        return judges

    def _keep(self, standing: Tensor) -> None:
        index = standing.nonzero().squeeze(1)
        self.routes, self.active, self._places = self.routes.select(index), self.active[index], self._places[index]
        self.found, self._before = self.found.kept(index), self._before.kept(index)
