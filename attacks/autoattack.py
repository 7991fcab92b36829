"""APGD-CE, APGD-DLR, APGD-PM and APGD-T (Croce and Hein 2020): the official single attacks, run sample by sample.

We call the library's `attack_single_run` and never its `perturb`, which seeds torch globally and gives every batch
the same noise, so that its results depend on the batch size. Nor its `check_dynamic`, which ends all tracing.
"""

from abc import abstractmethod
from dataclasses import dataclass as plain
from dataclasses import field
from fractions import Fraction
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Annotated, Literal, NamedTuple

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from vlm_gauntlet.fixtures.draws import Draws
from vlm_gauntlet.fixtures.files import sha256

from .adaptive.eot import input_gradient
from .balls import lp_norm, per_sample
from .base import STRICT, AttackInfo, Number, Run, Victim
from .gradients import GradientAttack
from .losses import LOSSES, wrong_classes


def official(module: str) -> ModuleType:
    """A module of the official code, from whichever package brings it."""
    package = "autoattack" if find_spec("autoattack") else "pyautoattack"
    return import_module(f"{package}.{module}")


library = official("autopgd_base")

# SHA-256 of files as reviewed, in pyautoattack 0.2.0. Other code still runs, but every outcome says so.
REVIEWED = {
    "autopgd_base": "6913041e2d8e94b72e659c9ea5452eb7d3476f24f32d227cdaae025c6db3c256",
    "fab_base": "63654f228a57b5ff56babd6ed3d1ddd0724827e8a210a48ba0d76cbc35333a5b",
    "fab_projections": "d2e095000c0ecd85f0eb22605465636487259c57147b4b2bd091c6ea86fb5bde",
}


@cache
def source(*modules: str) -> str:
    """The package that single attacks come from, its version, and whether these modules are the ones reviewed."""
    package = library.__name__.split(".")[0]
    found = {name: sha256(Path(official(name).__file__ or "").read_bytes()) for name in modules}
    other = [f"{name} {digest[:12]}" for name, digest in found.items() if digest != REVIEWED[name]]
    pinned = f" (not the reviewed code: SHA-256 of {', '.join(other)})" if other else ""
    try:
        return f"{package} {version(package)}{pinned}"
    except PackageNotFoundError:
        return f"{package}, not installed as a distribution{pinned}"


class Goal(NamedTuple):
    """What one single attack ascends: a loss of the library or `pm`, towards the class of this rank (0: untargeted)."""

    loss: str
    rank: int = 0


@dataclass(config=STRICT)
class AutoPGD(GradientAttack):
    """Auto-PGD; returns a misclassified iterate, or else the one with the highest loss.

    Args:
        steps: gradient steps of each single attack.
        restarts: random starts of each goal; a sample stops at its first success.
        step_size: of the first step, as a fraction of eps; later ones are adapted.

    A success must hold in as many fresh draws as a gradient averages.
    """

    steps: Annotated[int, Field(ge=1)] = 100
    restarts: Annotated[int, Field(ge=1)] = 1
    step_size: Annotated[Number, Field(ge=2, le=2)] = Fraction(2)
    random_start: Literal[True] = True
    selection: Literal["any-iterate"] = "any-iterate"
    reduction: Literal["sum"] = "sum"

    @abstractmethod
    def goals(self, classes: int, notes: list[str]) -> list[Goal]:
        """The goals that so many classes allow, in order. Says in `notes` what had to change."""

    def perturb(self, run: Run) -> Tensor:
        """See Attack. Samples already misclassified in every draw are returned as they are."""
        with torch.no_grad():
            logits = torch.stack([run.victim(run.images).float() for _ in range(self.eot)]).mean(0)
        goals = self.goals(logits.shape[1], run.notes)
        run.notes.append(
            f"single attacks: {', '.join(dict.fromkeys(g.loss for g in goals))}, from {source('autopgd_base')}"
        )
        loss = LOSSES.get(goals[0].loss, LOSSES["dlr"])
        gradient, first_loss, wrong = input_gradient(run.victim, run.images, run.labels, loss, draws=self.eot)
        run.telemetry |= {"first_loss": first_loss, "gradient_norm": lp_norm(gradient, "l2")}

        ranked = wrong_classes(logits, run.labels)
        best, score = run.images.clone(), torch.full_like(first_loss, float("-inf"))
        lost = ~torch.isfinite(gradient).flatten(1).all(1)
        active = (~wrong).nonzero().squeeze(1)
        victim = run.victim.select(active)
        for call, goal in enumerate(goal for goal in goals for _ in range(self.restarts)):
            if len(active) == 0:
                break
            draws = Draws(tuple(run.keys[i] for i in active.tolist()), call)
            target = ranked[active, goal.rank - 1] if goal.rank else None
            single = Single(self, victim, goal.loss, target, run.notes)
            images, values, broken = single(run.images[active], run.labels[active], draws)
            lost[active] |= single.lost(images)
            better = broken | (values > score[active])
            best[active[better]], score[active[better]] = images[better], values[better]
            victim, active = victim.select((~broken).nonzero().squeeze(1)), active[~broken]

        run.telemetry["nan_gradient"] = lost.float()
        with torch.no_grad():
            run.telemetry["last_loss"] = loss(run.victim(best).float(), run.labels)
        return best


@dataclass(config=STRICT)
class APGDCE(AutoPGD):
    """APGD on the cross-entropy."""

    info = AttackInfo(
        "apgd-ce",
        "Auto-PGD on the cross-entropy, the first part of AutoAttack",
        "Croce and Hein 2020, arXiv:2003.01690",
    )

    loss: Literal["ce"] = "ce"

    def goals(self, classes: int, notes: list[str]) -> list[Goal]:
        """See AutoPGD."""
        return [Goal("ce")]


@dataclass(config=STRICT)
class APGDDLR(AutoPGD):
    """APGD on the difference of logits ratio."""

    info = AttackInfo("apgd-dlr", "Auto-PGD on the difference of logits ratio", "Croce and Hein 2020, arXiv:2003.01690")

    loss: Literal["dlr"] = "dlr"

    def goals(self, classes: int, notes: list[str]) -> list[Goal]:
        """See AutoPGD. The DLR needs three classes."""
        if classes < 3:
            notes.append(f"apgd-dlr is impossible with {classes} classes (it needs 3): apgd-ce ran instead")
        return [Goal("dlr" if classes >= 3 else "ce")]


@dataclass(config=STRICT)
class APGDPM(AutoPGD):
    """APGD on the margin of the probabilities: the loss of PMA; its two stages are another schedule than APGD's."""

    info = AttackInfo(
        "apgd-pm", "Auto-PGD on the margin of the softmax probabilities", "Xie et al. 2025, arXiv:2411.15210"
    )

    loss: Literal["pm"] = "pm"

    def goals(self, classes: int, notes: list[str]) -> list[Goal]:
        """See AutoPGD."""
        return [Goal("pm")]


@dataclass(config=STRICT)
class APGDT(AutoPGD):
    """APGD on the targeted DLR loss, once for each of the most likely wrong classes.

    Args:
        n_targets: at most so many classes; capped by the number of wrong ones.
    """

    info = AttackInfo(
        "apgd-t",
        "Auto-PGD on the targeted DLR loss for up to 9 classes, the second part of AutoAttack",
        "Croce and Hein 2020, arXiv:2003.01690",
    )

    n_targets: Annotated[int, Field(ge=1)] = 9
    loss: Literal["dlr-targeted"] = "dlr-targeted"

    @property
    def tailored(self) -> bool:
        """See Attack."""
        return True

    def goals(self, classes: int, notes: list[str]) -> list[Goal]:
        """See AutoPGD. The targeted DLR needs four classes, the DLR three."""
        if classes <= 3:
            instead = "dlr" if classes == 3 else "ce"
            notes.append(f"apgd-t is impossible with {classes} classes (it needs 4): apgd-{instead} ran instead")
            return [Goal(instead)]
        targets = min(self.n_targets, classes - 1)
        if targets < self.n_targets:
            notes.append(f"apgd-t: {targets} targets instead of {self.n_targets}, there are {classes} classes")
        return [Goal("dlr-targeted", rank) for rank in range(1, targets + 1)]


@plain
class Single:
    """One single attack of the library on samples that still stand.

    Args:
        attack: norm, radius and budget.
        victim: bound to these samples.
        loss: the library's name of it, or ours of one that the library does not have.
        target: classes to reach [B], or None.
        notes: where the library's warnings go.
    """

    attack: AutoPGD
    victim: Victim
    loss: str
    target: Tensor | None
    notes: list[str]
    _lost: Tensor | None = field(default=None, init=False)

    def __call__(self, images: Tensor, labels: Tensor, draws: Draws) -> tuple[Tensor, Tensor, Tensor]:
        """Images [B, 3, H, W] -> attacked images, their best loss [B], broken [B]: misclassified in every draw."""
        kind = library.APGDAttack if self.target is None else library.APGDAttack_targeted
        budget = {"n_iter": self.attack.steps, "eps": self.attack.eps, "eot_iter": self.attack.eot}
        norm = {"linf": "Linf", "l2": "L2"}[self.attack.norm]
        apgd = kind(self.logits, norm=norm, device=images.device, logger=self, **budget)
        apgd.loss, apgd.y_target = self.loss, self.target
        if self.loss == "pm":  # takes the place of the library's DLR
            apgd.loss, apgd.dlr_loss = "dlr", LOSSES["pm"]
        apgd.init_hyperparam(images)
        start = random_start(images, self.attack.norm, self.attack.eps, draws)
        # The library draws a start of its own even when given one: keep that off the caller's stream.
        with torch.no_grad(), torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            highest, stood, values, wrong = apgd.attack_single_run(images, labels, x_init=start)
            found = torch.where(per_sample(stood.bool(), images), highest, wrong)
            broken = torch.ones_like(stood, dtype=torch.bool)
            for _ in range(self.attack.eot):
                broken &= self.victim(found).argmax(1) != labels
        return found, values, broken

    def logits(self, images: Tensor) -> Tensor:
        """What the library differentiates: float32, a tensor of its own, always joined to the images."""
        inputs = images.view_as(images)
        if inputs.requires_grad:
            inputs.register_hook(self._finite)  # type: ignore[no-untyped-call]
        # Without the zero term, a victim that cuts the graph would be a crash instead of a gradient of zero.
        logits: Tensor = self.victim(inputs).float() + 0 * inputs.flatten(1).sum(1, keepdim=True)
        return logits

    def _finite(self, gradient: Tensor) -> Tensor:
        self._lost = self.lost(gradient) | ~torch.isfinite(gradient).flatten(1).all(1)
        return gradient.nan_to_num(0.0, 0.0, 0.0)

    def lost(self, like: Tensor) -> Tensor:
        """Samples [B] for which a gradient was not finite."""
        return torch.zeros(len(like), dtype=torch.bool, device=like.device) if self._lost is None else self._lost

    def warning(self, message: str) -> None:
        """The library's logger."""
        if (note := f"{self.loss}: {message}") not in self.notes:
            self.notes.append(note)

    log = warning


def random_start(images: Tensor, norm: str, eps: float, draws: Draws) -> Tensor:
    """The library's start: a random direction stretched to the surface of the ball."""
    noise = draws.uniform(images, -1.0, 1.0) if norm == "linf" else draws.normal(images)
    start: Tensor = images + eps * noise / per_sample(lp_norm(noise, norm) + 1e-12, noise)
    return start
