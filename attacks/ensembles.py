"""AutoAttack (Croce and Hein 2020) and what the field calls so: cascades of single attacks, sample by sample.

Five things go by that name; each has an id of its own here. A sample leaves at its first success.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vlm_gauntlet.fixtures.draws import key_of

from .autoattack import APGDCE, APGDDLR, APGDT
from .balls import per_sample
from .base import Attack, Run
from .fab import FABT
from .square import Square

FIRST_ONLY = ("first_loss", "last_loss", "gradient_norm")  # losses of later parts are other losses


@dataclass
class Ensemble(Attack):
    """Runs its parts one after the other on the samples that still stand.

    Args:
        recipe: (ensemble, number of classes) -> parts by name.
        steps: of each single attack.
        eot: draws averaged per gradient; a success must hold in as many fresh draws, so that luck counts for nothing.
    """

    recipe: Callable[["Ensemble", int], dict[str, Attack]]
    steps: int = 100
    eot: int = 1

    def perturb(self, run: Run) -> Tensor:
        """See Attack. What stands is as the first part left it; telemetry: which part broke a sample, `broken_by`."""
        with torch.no_grad():
            classes = run.victim(run.images).shape[1]
        best, active = run.images.clone(), torch.arange(len(run.labels), device=run.labels.device)
        broken_by = torch.zeros_like(run.labels)
        parts = self.recipe(self, classes) if classes > 1 else {}
        run.notes.append(f"with {classes} classes: {', '.join(parts) or 'no attack, there is nothing to reach'}")
        for number, (name, part) in enumerate(parts.items(), start=1):
            if len(active) == 0:
                break
            victim, keys = run.victim.select(active), tuple(key_of(run.keys[i], name) for i in active.tolist())
            result = part(victim, run.images[active], run.labels[active], keys)
            broken = result.success
            with torch.no_grad():
                for _ in range(1, self.eot):
                    broken = broken & (victim(result.images).argmax(1) != run.labels[active])
            take = broken | (number == 1)
            best[active] = torch.where(per_sample(take, best), result.images, best[active])
            broken_by[active[broken]] = number
            self._gather(run, active, result.telemetry)
            run.notes += [f"{name}: {note}" for note in result.notes]
            active = active[~broken]
        run.telemetry["broken_by"] = broken_by.float()
        return best

    @staticmethod
    def _gather(run: Run, active: Tensor, telemetry: dict[str, Tensor]) -> None:
        """The first part speaks of losses and gradients; a NaN of any part is told."""
        for name in FIRST_ONLY:
            if name in telemetry:
                run.telemetry.setdefault(name, telemetry[name])
        lost = run.telemetry.setdefault("nan_gradient", torch.zeros(run.labels.shape, device=active.device))
        if "nan_gradient" in telemetry:
            lost[active] = torch.maximum(lost[active], telemetry["nan_gradient"])


def standard(whole: Ensemble, classes: int) -> dict[str, Attack]:
    """AutoAttack `standard`: 9 targets; Square asks 50 times a step, on the first part of its schedule."""
    budget = (whole.norm, whole.eps, whole.steps)
    second: dict[str, Attack] = {"apgd-t": APGDT(*budget)} if classes > 3 else {"apgd-dlr": APGDDLR(*budget)}
    square = Square(whole.norm, whole.eps, queries=50 * whole.steps, stretched=False)
    return {"apgd-ce": APGDCE(*budget), **(second if classes > 2 else {}), "fab-t": FABT(*budget), "square": square}


def randomised(whole: Ensemble, classes: int) -> dict[str, Attack]:
    """AutoAttack `rand`, for randomised defences: gradients averaged over draws."""
    parts: dict[str, Attack] = {"apgd-ce": APGDCE(whole.norm, whole.eps, whole.steps, eot=whole.eot)}
    if classes > 2:
        parts["apgd-dlr"] = APGDDLR(whole.norm, whole.eps, whole.steps, eot=whole.eot)
    return parts


def fare(whole: Ensemble, classes: int) -> dict[str, Attack]:
    """FARE's evaluation: APGD-CE with 5 restarts (the default of a `custom` version), then APGD-T."""
    parts: dict[str, Attack] = {"apgd-ce": APGDCE(whole.norm, whole.eps, whole.steps, restarts=5)}
    if classes > 2:
        parts["apgd-t"] = APGDT(whole.norm, whole.eps, whole.steps)
    return parts


def tecoa(whole: Ensemble, classes: int) -> dict[str, Attack]:
    """TeCoA's and TTC's evaluation: APGD-CE, then APGD-DLR, one start each."""
    return randomised(replace(whole, eot=1), classes)
