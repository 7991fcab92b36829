"""AutoAttack (Croce and Hein 2020) and what the field calls so: cascades of single attacks, sample by sample.

Five things go by that name; each has an id of its own here. A sample leaves at its first success.
"""

from abc import abstractmethod
from fractions import Fraction
from typing import Annotated, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from vlm_gauntlet.fixtures.draws import key_of

from .autoattack import APGDCE, APGDDLR, APGDT
from .balls import per_sample
from .base import STRICT, Attack, AttackInfo, Number, Run
from .fab import FABT
from .gradients import GradientAttack
from .square import Square

FIRST_ONLY = ("first_loss", "last_loss", "gradient_norm")  # losses of later parts are other losses


@dataclass(config=STRICT)
class Ensemble(GradientAttack):
    """Runs its parts one after the other on the samples that still stand.

    Args:
        steps: of each single attack.
        eot: draws averaged per gradient; a success must hold in as many fresh draws, so that luck counts for nothing.
    """

    steps: Annotated[int, Field(ge=1)] = 100
    step_size: Annotated[Number, Field(ge=2, le=2)] = Fraction(2)
    random_start: Literal[True] = True
    selection: Literal["any-iterate"] = "any-iterate"
    restarts: Literal[1] = 1
    reduction: Literal["sum"] = "sum"

    @abstractmethod
    def parts(self, classes: int) -> dict[str, Attack]:
        """The single attacks by name that so many classes allow, in order."""

    def perturb(self, run: Run) -> Tensor:
        """See Attack. What stands is as the first part left it; telemetry: which part broke a sample, `broken_by`."""
        with torch.no_grad():
            classes = run.victim(run.images).shape[1]
        best, active = run.images.clone(), torch.arange(len(run.labels), device=run.labels.device)
        broken_by = torch.zeros_like(run.labels)
        parts = self.parts(classes) if classes > 1 else {}
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


@dataclass(config=STRICT)
class Standard(Ensemble):
    """AutoAttack `standard`: 9 targets; Square asks 50 times a step, on the first part of its schedule."""

    info = AttackInfo(
        "aa-standard",
        "AutoAttack standard: APGD-CE, APGD-T, FAB-T, Square, each on what still stands",
        "Croce and Hein 2020, arXiv:2003.01690",
        ("linf",),
    )

    eot: Literal[1] = Field(default=1, kw_only=True)

    def parts(self, classes: int) -> dict[str, Attack]:
        """See Ensemble."""
        budget = (self.norm, self.eps, self.steps)
        second: dict[str, Attack] = {"apgd-t": APGDT(*budget)} if classes > 3 else {"apgd-dlr": APGDDLR(*budget)}
        square = Square(self.norm, self.eps, queries=50 * self.steps, stretched=False)
        return {"apgd-ce": APGDCE(*budget), **(second if classes > 2 else {}), "fab-t": FABT(*budget), "square": square}


@dataclass(config=STRICT)
class Rand(Ensemble):
    """AutoAttack `rand`, for randomised defences: gradients averaged over draws."""

    info = AttackInfo(
        "aa-rand",
        "AutoAttack rand: APGD-CE and APGD-DLR with gradients averaged over draws",
        "Croce and Hein 2020, arXiv:2003.01690",
    )

    def parts(self, classes: int) -> dict[str, Attack]:
        """See Ensemble."""
        parts: dict[str, Attack] = {"apgd-ce": APGDCE(self.norm, self.eps, self.steps, eot=self.eot)}
        if classes > 2:
            parts["apgd-dlr"] = APGDDLR(self.norm, self.eps, self.steps, eot=self.eot)
        return parts


@dataclass(config=STRICT)
class Fare(Ensemble):
    """FARE's evaluation: APGD-CE with 5 restarts (the default of a `custom` version), then APGD-T."""

    info = AttackInfo(
        "aa-fare",
        "What FARE calls AutoAttack: APGD-CE with 5 restarts, then APGD-T",
        "Schlarmann et al. 2024, arXiv:2402.12336",
    )

    eot: Literal[1] = Field(default=1, kw_only=True)

    def parts(self, classes: int) -> dict[str, Attack]:
        """See Ensemble."""
        parts: dict[str, Attack] = {"apgd-ce": APGDCE(self.norm, self.eps, self.steps, restarts=5)}
        if classes > 2:
            parts["apgd-t"] = APGDT(self.norm, self.eps, self.steps)
        return parts


@dataclass(config=STRICT)
class Tecoa(Rand):
    """TeCoA's and TTC's evaluation: APGD-CE, then APGD-DLR, one start each."""

    info = AttackInfo(
        "aa-tecoa",
        "What TeCoA and TTC call AutoAttack: APGD-CE, then APGD-DLR",
        "Mao et al. 2023, arXiv:2212.07016",
    )

    eot: Literal[1] = Field(default=1, kw_only=True)
