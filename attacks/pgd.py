"""FGSM, BIM, MI-FGSM and projected gradient descent (Madry et al. 2018), L-inf and L2."""

from contextlib import AbstractContextManager
from dataclasses import dataclass as plain
from dataclasses import field
from fractions import Fraction
from functools import partial
from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass
from torch import Tensor

from vlm_gauntlet.fixtures.draws import Draws
from vlm_gauntlet.fixtures.prompts import PromptSet

from .adaptive.branches import Branched, branch_attack
from .adaptive.eot import input_gradient
from .adaptive.evasion import evade
from .balls import lp_norm, per_sample, project, random_point
from .base import STRICT, AttackInfo, AttackResult, Context, Number, Run
from .gradients import GradientAttack
from .losses import LOSSES, TARGETED, Loss, averaged, cw, wrong_classes

HINGES = ("cw", "boundary")
CLASSES = {"dlr": 3, "ce-targeted": 2, "dlr-targeted": 4}  # that a loss needs; with fewer, the cross-entropy stands in
TAILORED = ("ce-targeted", "dlr-targeted", "boundary")
HALF = {"bf16": torch.bfloat16, "amp-fp16": torch.float16}


@dataclass(config=STRICT)
class PGD(GradientAttack):
    """Ascends a loss by sign steps (L-inf) or normalised steps (L2), projecting outside the graph.

    The hooks `gradient`, `redirect`, `accelerate` and `step` are one concern each; subclasses may override them.

    Args:
        steps: gradient steps of each restart.
        step_size: length of a step, as a fraction of eps.
        restarts: independent random starts; a sample keeps its first success. Of a targeted loss, restart r goes for
            the r-th of the clean image's wrong classes, in the order of `targets`.
        random_start: uniform in the ball (L-inf), or Gaussian direction with uniform radius (L2).
        loss: a name in `losses.LOSSES` (`pm` is the margin of the probabilities) or `losses.TARGETED`; `cw`; or
            `boundary`, which is `cw` at kappa = 0: an image stays where it crosses the decision boundary.
        selection: `final` iterate, or `any-iterate` that was misclassified in every draw: the one of highest loss, or
            the first where `stop` says that the victim draws nothing.
        evasion: weight of leaving the region where the victim's gate acts (a `Gated` victim).
        branches: weight of attacking each part that the victim mixes (a `Branched` victim).
        kappa: margin of the logits at which `cw` saturates.
        stop: end where every sample has been misclassified once; set where the victim draws nothing.
        momentum: share of the earlier gradients that each step keeps (MI-FGSM, Dong et al. 2018, arXiv 1710.06081).
        targets: of a targeted loss, the likeliest wrong class first, or the least likely (ILCM, Kurakin et al. 2017,
            arXiv 1607.02533).
        reduction: `mean` over the batch as some evaluations have it, to reproduce them: results depend on the batch.
        precision: of the attack; scoring is fp32.
    """

    info = AttackInfo(
        "pgd",
        "Projected gradient descent; without random start it is BIM, in one full step FGSM, with momentum MI-FGSM",
        "Madry et al. 2018, arXiv:1706.06083",
    )

    steps: Annotated[int, Field(ge=0)] = 10
    step_size: Number = Fraction(1, 4)
    restarts: Annotated[int, Field(ge=1)] = 1
    random_start: bool = True
    loss: Literal["ce", "dlr", "pm", "ce-targeted", "dlr-targeted", "cw", "boundary"] = "ce"
    selection: Literal["final", "any-iterate"] = "final"
    evasion: Annotated[Number, Field(ge=0)] = Fraction(0)
    branches: Annotated[Number, Field(ge=0)] = Fraction(0)
    kappa: Annotated[Number, Field(ge=0)] = Fraction(0)
    momentum: Annotated[Number, Field(ge=0)] = Fraction(0)
    targets: Literal["likeliest", "least-likely"] = "likeliest"
    stop: Annotated[bool, Field(exclude=True)] = False
    reduction: Literal["sum", "mean"] = "sum"
    precision: Literal["fp32", "bf16", "amp-fp16"] = "fp32"

    @model_validator(mode="after")
    def _consistent(self) -> "PGD":
        if (self.kappa > 0) != (self.loss == "cw"):
            raise ValueError(
                f"kappa = {self.kappa} with the loss {self.loss}: above 0 with cw, else 0; cw at 0 is called boundary"
            )
        if self.targets != "likeliest" and self.loss not in TARGETED:
            raise ValueError(
                f"targets = {self.targets} with the loss {self.loss}, which has none: use {list(TARGETED)}"
            )
        return self

    @property
    def needs(self) -> tuple[str, ...]:
        """See Attack."""
        asked = {"gate_margin": self.evasion > 0, "branch_logits": self.branches > 0}
        return (*super().needs, *(part for part, wanted in asked.items() if wanted))

    @property
    def tailored(self) -> bool:
        """See Attack."""
        return super().tailored or self.evasion > 0 or self.branches > 0 or self.loss in TAILORED

    @property
    def couples_batch(self) -> bool:
        """See Attack."""
        return self.reduction == "mean"

    def attack_images(self, context: Context, prompts: PromptSet | None = None) -> AttackResult:
        """See GradientAttack."""
        self.stop = context.deterministic
        with self._autocast(context.images.device):
            return super().attack_images(context, prompts)

    def _autocast(self, device: torch.device) -> AbstractContextManager[object]:
        half = HALF.get(self.precision)
        context: AbstractContextManager[object] = torch.autocast(device.type, half, enabled=half is not None)
        return context

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
        if self.loss in HINGES:
            return [partial(cw, kappa=float(self.kappa))] * self.restarts
        if self.loss not in CLASSES:
            return [LOSSES[self.loss]] * self.restarts
        with torch.no_grad():
            logits = torch.stack([run.victim(run.images).float() for _ in range(self.eot)]).mean(0)
        classes, name = logits.shape[1], str(self.loss)
        if classes < CLASSES[name]:
            name = "ce-targeted" if name == "dlr-targeted" and classes > 1 else "ce"
            run.notes.append(f"{self.loss} needs {CLASSES[self.loss]} classes, there are {classes}: {name} instead")
        if name not in TARGETED:
            return [LOSSES[name]] * self.restarts
        ranked = wrong_classes(logits, run.labels)
        targets = (ranked if self.targets == "likeliest" else ranked.flip(1)).unbind(1)[: self.restarts]
        if len(targets) < self.restarts:
            run.notes.append(f"{len(targets)} targets instead of {self.restarts}, there are {classes} classes")
        return [partial(TARGETED[name], target) for target in targets]

    def _ascend(self, run: Run, restart: int, loss: Loss) -> tuple[Tensor, Tensor]:
        """One restart: the images that it selects [B, 3, H, W], and which of them succeeded [B]."""
        images = self.start(run, restart) if self.random_start else run.images.clone()
        kept, velocity = Kept(images, first=self.stop), torch.zeros_like(images)
        for step in range(self.steps):
            gradient, values, wrong = self.differentiate(run, images, loss)
            if step == 0 and restart == 0:
                self._begin(run, gradient, values)
            self._record(run, "nan_gradient", ~torch.isfinite(gradient).flatten(1).all(1))
            kept.see(images, values, wrong)
            if self.stop and self.selection == "any-iterate" and kept.found.all():
                break
            direction = self.redirect(run, images, gradient.nan_to_num(0.0, 0.0, 0.0))  # a NaN moves nothing
            velocity = self.accelerate(velocity, direction)
            images = project(images + self.step(velocity), run.images, norm=self.norm, eps=self.eps)
        return self._end(run, images, kept, loss)

    def differentiate(self, run: Run, images: Tensor, loss: Loss) -> tuple[Tensor, Tensor, Tensor]:
        """Gradient [B, 3, H, W], loss [B] and misclassified [B], averaged over draws (`eot.input_gradient`)."""
        return input_gradient(run.victim, images, run.labels, loss, draws=self.eot)

    def redirect(self, run: Run, images: Tensor, gradient: Tensor) -> Tensor:
        """The gradient with what the attacker knows of the defence: out of its gate, against its branches."""
        if self.evasion:
            gradient = evade(run.victim, images, gradient, float(self.evasion))  # type: ignore[arg-type]
        if self.branches:
            parts: Branched = run.victim  # type: ignore[assignment]
            weight = float(self.branches)
            gradient = branch_attack(parts, images, run.labels, gradient, weight, draws=self.eot)
        return gradient

    def accelerate(self, velocity: Tensor, gradient: Tensor) -> Tensor:
        """The direction of a step: the gradient, or with momentum the sum of gradients of mean size 1."""
        if not self.momentum:
            return gradient
        size = gradient.abs().flatten(1).mean(1).clamp_min(torch.finfo(gradient.dtype).tiny)
        return float(self.momentum) * velocity + gradient / per_sample(size, gradient)

    def step(self, direction: Tensor) -> Tensor:
        """How far to go [B, 3, H, W]: along the sign (L-inf) or the unit direction (L2)."""
        length = float(self.step_size) * self.eps
        if self.norm == "linf":
            return length * direction.sign()
        return length * direction / per_sample(lp_norm(direction, "l2").clamp_min(1e-12), direction)

    def start(self, run: Run, restart: int) -> Tensor:
        """A random point of the ball [B, 3, H, W]."""
        return random_point(run.images, Draws(run.keys, call=restart), norm=self.norm, eps=self.eps)

    def _begin(self, run: Run, gradient: Tensor, values: Tensor) -> None:
        run.telemetry |= {"first_loss": values, "gradient_norm": lp_norm(gradient, "l2")}
        if self.loss in HINGES:
            run.telemetry["saturated"] = (values == 0).float()

    def _end(self, run: Run, images: Tensor, kept: "Kept", loss: Loss) -> tuple[Tensor, Tensor]:
        """What `selection` chooses, and its success; the last iterate is looked at once."""
        with torch.no_grad():
            logits = run.victim(images).float()
        wrong = logits.argmax(1) != run.labels
        self._record(run, "last_loss", loss(logits, run.labels))
        self._record(run, "silent_success", kept.found & ~wrong)
        if self.selection == "final":
            return images, wrong
        return torch.where(per_sample(kept.found, images), kept.images, images), kept.found | wrong

    @staticmethod
    def _record(run: Run, name: str, values: Tensor) -> None:
        """Keeps the largest value [B] of all steps and restarts."""
        run.telemetry[name] = torch.maximum(run.telemetry.get(name, values.float()), values.float())


@plain
class Kept:
    """The misclassified iterate of each sample that `any-iterate` returns: of highest loss, or the first one.

    Args:
        images: where nothing was found yet [B, 3, H, W].
        first: keep the first one.
    """

    images: Tensor
    first: bool
    found: Tensor = field(init=False)
    score: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.score = torch.full(self.images.shape[:1], -torch.inf, device=self.images.device)
        self.found = torch.zeros_like(self.score, dtype=torch.bool)

    def see(self, images: Tensor, values: Tensor, wrong: Tensor) -> None:
        """Looks at iterates [B, 3, H, W] with their losses [B] and whether they are misclassified [B]."""
        better = wrong & (~self.found if self.first else values > self.score)
        self.images = torch.where(per_sample(better, images), images, self.images)
        self.score = torch.where(better, values, self.score)
        self.found = self.found | wrong


@dataclass(config=STRICT)
class CWPGD(PGD):
    """PGD on what CLIP papers call CW: a margin of the logits that saturates at kappa (TeCoA attacks.py:56-106)."""

    info = AttackInfo(
        "cw-pgd",
        "PGD on a margin of the logits that saturates at kappa: what CLIP papers call CW",
        "Carlini and Wagner 2017, arXiv:1608.04644, as Mao et al. 2023 run it, arXiv:2212.07016",
    )

    loss: Literal["cw"] = "cw"
    kappa: Annotated[Number, Field(gt=0)] = Fraction(50)


def fgsm(norm: str, eps: float) -> PGD:
    """One step of full length from the clean image (Goodfellow et al. 2015)."""
    return PGD(norm, eps, steps=1, step_size=1.0, random_start=False)
