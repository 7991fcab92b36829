"""FGSM, BIM, MI-FGSM and projected gradient descent (Madry et al. 2018), L-inf and L2."""

from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from vlm_gauntlet.fixtures.draws import Draws

from .adaptive.branches import Branched, spoil
from .adaptive.eot import input_gradient
from .adaptive.evasion import evade
from .balls import lp_norm, per_sample, project
from .base import Attack, Run
from .losses import LOSSES, TARGETED, Loss, averaged, cw, wrong_classes

RESTING = ("cw", "boundary")
CLASSES = {"dlr": 3, "ce-targeted": 2, "dlr-targeted": 4}  # that a loss needs; with fewer, the cross-entropy stands in


@dataclass
class PGD(Attack):
    """Ascends a loss by sign steps (L-inf) or normalised steps (L2), projecting outside the graph.

    Args:
        steps: gradient steps of each restart.
        step_size: length of a step, as a fraction of eps.
        restarts: independent random starts; a sample keeps its first success. Of a targeted loss, restart r goes for
            the r-th likeliest wrong class of the clean image.
        random_start: uniform in the ball (L-inf), or Gaussian direction with uniform radius (L2).
        loss: a name in `losses.LOSSES` or `losses.TARGETED`; `cw`; or `boundary`, which is `cw` at kappa = 0: an image
            stays where it crosses the decision boundary.
        selection: `final` iterate, or `any-iterate` that was misclassified in every draw: the one of highest loss, or
            the first where `stop` says that the victim draws nothing.
        eot: draws averaged per gradient.
        evasion: weight of leaving the region where the victim's gate acts (a `Gated` victim).
        branches: weight of spoiling each part that the victim mixes (a `Branched` victim).
        kappa: margin at which `cw` rests, in units of the logits.
        stop: end where every sample has been misclassified once.
        momentum: share of the earlier gradients that each step keeps (MI-FGSM, Dong et al. 2018, arXiv 1710.06081).
        reduction: `mean` over the batch as some evaluations have it, to reproduce them: results depend on the batch.
    """

    steps: int = 10
    step_size: float = 0.25
    restarts: int = 1
    random_start: bool = True
    loss: str = "ce"
    selection: Literal["final", "any-iterate"] = "final"
    eot: int = 1
    evasion: float = 0.0
    branches: float = 0.0
    kappa: float = 0.0
    momentum: float = 0.0
    stop: bool = False
    reduction: Literal["sum", "mean"] = "sum"

    def perturb(self, run: Run) -> Tensor:
        """See Attack."""
        best, broken = run.images.clone(), torch.zeros_like(run.labels, dtype=torch.bool)
        for restart, loss in enumerate(self._losses(run)):
            loss = partial(averaged, loss) if self.reduction == "mean" else loss
            images, success = self._ascend(run, restart, loss)
            take = ~broken if restart == 0 else ~broken & success
            best = torch.where(per_sample(take, best), images, best)
            broken |= success
        return best

    def _losses(self, run: Run) -> list[Loss]:
        """What each restart ascends."""
        if self.loss not in CLASSES:
            return [partial(cw, kappa=self.kappa) if self.loss in RESTING else LOSSES[self.loss]] * self.restarts
        with torch.no_grad():
            logits = torch.stack([run.victim(run.images).float() for _ in range(self.eot)]).mean(0)
        classes, name = logits.shape[1], self.loss
        if classes < CLASSES[name]:
            name = "ce-targeted" if name == "dlr-targeted" and classes > 1 else "ce"
            run.notes.append(f"{self.loss} needs {CLASSES[self.loss]} classes, there are {classes}: {name} instead")
        if name not in TARGETED:
            return [LOSSES[name]] * self.restarts
        targets = wrong_classes(logits, run.labels).unbind(1)[: self.restarts]
        if len(targets) < self.restarts:
            run.notes.append(f"{len(targets)} targets instead of {self.restarts}, there are {classes} classes")
        return [partial(TARGETED[name], target) for target in targets]

    def _ascend(self, run: Run, restart: int, loss: Loss) -> tuple[Tensor, Tensor]:
        clean, velocity = run.images, torch.zeros_like(run.images)
        images = self._start(run, restart) if self.random_start else clean.clone()
        kept, found = images.clone(), torch.zeros_like(run.labels, dtype=torch.bool)
        score = torch.full(run.labels.shape, -torch.inf, device=images.device)
        for step in range(self.steps):
            gradient, values, wrong = input_gradient(run.victim, images, run.labels, loss, draws=self.eot)
            if step == 0 and restart == 0:
                run.telemetry |= {"first_loss": values, "gradient_norm": lp_norm(gradient, "l2")}
                if self.loss in RESTING:
                    run.telemetry["resting"] = (values == 0).float()
            self._record(run, "nan_gradient", ~torch.isfinite(gradient).flatten(1).all(1))
            gradient = gradient.nan_to_num(0.0, 0.0, 0.0)  # a NaN moves nothing; the indicator tells of it
            better = wrong & (~found if self.stop else values > score)
            kept, score = torch.where(per_sample(better, images), images, kept), torch.where(better, values, score)
            found |= wrong
            if self.stop and self.selection == "any-iterate" and found.all():
                break
            if self.evasion:
                gradient = evade(run.victim, images, gradient, self.evasion)  # type: ignore[arg-type]
            if self.branches:
                parts: Branched = run.victim  # type: ignore[assignment]
                gradient = spoil(parts, images, run.labels, gradient, self.branches, draws=self.eot)
            if self.momentum:
                size = gradient.abs().flatten(1).mean(1).clamp_min(torch.finfo(gradient.dtype).tiny)
                gradient = velocity = self.momentum * velocity + gradient / per_sample(size, gradient)
            images = project(images + self._step(gradient), clean, norm=self.norm, eps=self.eps)
        with torch.no_grad():
            logits = run.victim(images).float()
        wrong = logits.argmax(1) != run.labels
        self._record(run, "last_loss", loss(logits, run.labels))
        self._record(run, "silent_success", found & ~wrong)
        if self.selection == "final":
            return images, wrong
        return torch.where(per_sample(found, images), kept, images), found | wrong

    @staticmethod
    def _record(run: Run, name: str, values: Tensor) -> None:
        """Keeps the largest value [B] of all steps and restarts."""
        run.telemetry[name] = torch.maximum(run.telemetry.get(name, values.float()), values.float())

    def _start(self, run: Run, restart: int) -> Tensor:
        draws = Draws(run.keys, call=restart)
        if self.norm == "linf":
            noise = draws.uniform(run.images, -self.eps, self.eps)
        else:
            direction = draws.normal(run.images)
            radius = draws.uniform(run.labels.float(), 0.0, self.eps)
            noise = direction * per_sample(radius / lp_norm(direction, "l2").clamp_min(1e-12), direction)
        return project(run.images + noise, run.images, norm=self.norm, eps=self.eps)

    def _step(self, gradient: Tensor) -> Tensor:
        length = self.step_size * self.eps
        if self.norm == "linf":
            return length * gradient.sign()
        return length * gradient / per_sample(lp_norm(gradient, "l2").clamp_min(1e-12), gradient)


def fgsm(norm: str, eps: float) -> PGD:
    """One step of full length from the clean image (Goodfellow et al. 2015)."""
    return PGD(norm, eps, steps=1, step_size=1.0, random_start=False)
