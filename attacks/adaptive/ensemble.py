"""An adaptive ensemble: ascents of several losses and gradients on what still stands, in rounds of doubling budget."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass as plain
from dataclasses import replace
from fractions import Fraction
from functools import partial
from typing import Annotated, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from vlm_gauntlet.fixtures.draws import Draws
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.fixtures.protocols import Gradient

from ..balls import lp_norm, random_point
from ..base import STRICT, AttackInfo, AttackResult, Context, Number, Run, Victim
from ..gradients import GradientAttack
from ..losses import Loss, cross_entropy, lead, margin, wrong_classes
from .branches import branch_attack
from .evasion import evade
from .routes import InformedContext, Routes, pooled_gradient
from .standing import Standing
from .step_control import AutoStep, Cosine, StepControl

OWN_VALUES: Gradient = "relaxed"  # the way whose logits are not the defence's
WAYS: tuple[Gradient, ...] = ("relaxed", "unrolled")  # parts of a defence that are gradients; others redirect one
REDIRECTS = {"gate_margin": "evade", "branch_logits": "branches"}


@plain(frozen=True)
class Ascent:
    """One ascent.

    Args:
        way: through which gradient.
        goal: `ce`, `margin` over the best wrong class, or the rank of one wrong class.
        start: `best` image so far, or a `random` point of the ball.
        redirect: also out of the gate (`evade`) or against each branch (`branches`).
    """

    way: str
    goal: str | int
    start: str = "best"
    redirect: str = ""


@dataclass(config=STRICT)
class AdaptiveEnsemble(GradientAttack):
    """Runs ascents side by side, each on the samples that still stand; a round takes twice the budget of the last.

    The first start is what transfers from the models at hand. Then the cheapest way that reaches the defence (its
    `relaxed` form, else the given gradient) ascends the cross-entropy, the margin over the runner-up and margins
    towards single classes, from the best image so far and from random ones; the dearer ways (the given gradient, its
    unrolled steps) take one goal each. The margin of a randomised victim is that of its mean logits. A round has twice
    the steps of the last; of a randomised victim every second round has twice the draws instead.

    A sample's curve is flat where it fell, or where a doubling gained so little that two more could not take it
    (`standing.REACH`); then nothing more is spent on it. Series: `converged` (1 where flat), `rounds` (in which it was
    attacked).

    Args:
        steps: of an ascent in the first round.
        rounds: at most so many; below two nothing can be told of the curve.
        n_targets: classes that are targets of their own.
        eot: draws averaged by the last steps of the first round; the earlier ones take fewer.
        looks: draws in which an image must be wrong, all of them, to count as broken, where the victim draws.
        control: of the steps.
        momentum: of the control `cosine`.
        parts: go through what the defence offers beside the given gradient.
    """

    info = AttackInfo(
        "adaptive-ensemble",
        "Ascents of several losses through all gradients of a defence on what stands, until doubling takes nothing",
        "composed here after Tramer et al. 2020, arXiv:2002.08347, with steps of arXiv:1710.06081 or arXiv:2003.01690",
    )

    steps: Annotated[int, Field(ge=1)] = 10
    rounds: Annotated[int, Field(ge=1)] = 5
    n_targets: Annotated[int, Field(ge=0)] = 3
    looks: Annotated[int, Field(ge=1)] = 8
    control: Literal["cosine", "apgd"] = "cosine"
    momentum: Annotated[Number, Field(ge=0, lt=1)] = Fraction(9, 10)
    parts: bool = True
    selection: Literal["any-iterate"] = "any-iterate"
    reduction: Literal["sum"] = "sum"
    draws: Literal["fresh"] = Field(default="fresh", kw_only=True)
    labels: Literal["true"] = Field(default="true", kw_only=True)

    @property
    def tailored(self) -> bool:
        """See Attack."""
        return super().tailored or self.parts or self.n_targets > 0

    @property
    def transfers(self) -> bool:  # type: ignore[override]
        """See Attack."""
        return self.parts

    @property
    def total_steps(self) -> int:
        """See GradientAttack; of one ascent."""
        return self.steps * ((1 << self.rounds) - 1)

    @property
    def averaged_draws(self) -> int:
        """See Attack."""
        return self.eot << (self.rounds - 1) // 2

    def attack_images(self, context: Context, prompts: PromptSet | None = None) -> AttackResult:
        """See GradientAttack."""
        attack = replace(self, eot=1, looks=1) if context.deterministic else self
        return attack(self._routes(context, prompts), context.images, context.labels, context.keys)

    def _routes(self, context: Context, prompts: PromptSet | None) -> Routes:
        direct = context.victim(prompts=prompts)
        if not self.parts:
            return Routes(direct, {self.gradient: context.victim(self.gradient, prompts=prompts)})
        informed: InformedContext = context  # type: ignore[assignment]
        offered = [way for way in WAYS if way != self.gradient and informed.offers(way)]
        ways: dict[str, Victim] = {way: context.victim(way, prompts=prompts) for way in (self.gradient, *offered)}
        redirects = tuple(word for part, word in REDIRECTS.items() if informed.offers(part))
        return Routes(direct, ways, context.sources(prompts), redirects)

    def perturb(self, run: Run) -> Tensor:
        """See Attack. What stands at the end is the image that most looks got wrong; of several the highest margin."""
        routes = run.victim if isinstance(run.victim, Routes) else Routes(run.victim, {self.gradient: run.victim})
        self._begin(run, routes)
        state, call = Standing(run, routes, self.looks), 0
        for number in range(self.rounds):
            state.open()
            if number == 0:
                self._transfer(state)
            for ascent in self._ascents(routes, number, state.found.logits.shape[1]):
                call += 1
                if len(state.active):
                    state.offer(self._ascend(state, ascent, number, call))
            state.close(comparable=number > 0)
        self._end(run, state)
        return state.best

    def _ascents(self, routes: Routes, number: int, classes: int) -> Iterator[Ascent]:
        """The ascents of a round, the cheapest way first; where one round starts from the best, the next does not."""
        if classes < 2:
            return
        starts = ("best", "random") if number % 2 == 0 else ("random", "best")
        cheapest, *dearer = sorted(routes.ways, key=lambda way: way != OWN_VALUES)
        yield Ascent(cheapest, "ce", starts[0])
        yield Ascent(cheapest, "margin", starts[1])
        for rank in range(min(self.n_targets, classes - 1)):
            yield Ascent(cheapest, rank, starts[rank % 2])
        for way in dearer:
            turned = way == self.gradient and number % 2
            yield Ascent(way, "ce", "random") if turned else Ascent(way, "margin")
        for redirect in routes.redirects:
            yield Ascent(self.gradient, "margin", "best", redirect)

    def _budget(self, number: int) -> tuple[int, int]:
        """Steps, and draws of the last steps, in a round."""
        if self.looks == 1:
            return self.steps * 2**number, self.eot
        return self.steps * 2 ** ((number + 1) // 2), self.eot * 2 ** (number // 2)

    def _transfer(self, state: Standing) -> None:
        """Offers images made on each source."""
        for name in state.routes.sources:
            if len(state.active):
                ascent = Ascent(OWN_VALUES, "margin", "clean")
                state.offer(self._climb(state, state.routes.sources[name], ascent, self.steps, 1, 0))

    def _ascend(self, state: Standing, ascent: Ascent, number: int, call: int) -> Tensor:
        return self._climb(state, state.routes.ways[ascent.way], ascent, *self._budget(number), call)

    def _climb(self, state: Standing, victim: Victim, ascent: Ascent, steps: int, eot: int, call: int) -> Tensor:
        """One ascent of the active samples: the images where it ends, or the first that is wrong [A, 3, H, W]."""
        loss, images = self._loss(state, ascent.goal), self._start(state, ascent.start, call)
        walk = self._control(state.images, steps)
        result, labels, here = images.clone(), state.labels, torch.arange(len(images), device=images.device)
        pooled: Tensor | None = None
        certain = self.looks == 1 and ascent.way != OWN_VALUES
        for step in range(steps):
            draws = max(1, eot >> (3 - 4 * step // steps))
            gradient, values, mean, wrong = pooled_gradient(
                victim, images, labels, partial(loss, here), draws=draws, pooled=pooled
            )
            lost = ~torch.isfinite(gradient).flatten(1).all(1)
            self._record(state, here, lost)
            if certain and wrong.any():
                result[here[wrong]] = images[wrong]
                stay = (~wrong).nonzero().squeeze(1)
                here, images, labels, gradient = here[stay], images[stay], labels[stay], gradient[stay]
                values, mean, walk, victim = values[stay], mean[stay], walk.kept(stay), victim.select(stay)
                if not len(here):
                    return result
            pooled = mean if eot > 1 and ascent.goal != "ce" else None
            gradient = self._redirected(victim, images, labels, gradient.nan_to_num(0.0, 0.0, 0.0), ascent.redirect)
            images = walk(images, gradient, values)
        result[here] = walk.end(images)
        return result

    def _loss(self, state: Standing, goal: str | int) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
        """(places among the active samples [b], logits [b, K], labels [b]) -> [b]."""
        if isinstance(goal, str):
            plain: Loss = cross_entropy if goal == "ce" else margin
            return lambda here, logits, labels: plain(logits, labels)
        target = wrong_classes(state.found.logits, state.labels)[:, goal]
        return lambda here, logits, labels: lead(target[here], logits, labels)

    def _start(self, state: Standing, start: str, call: int) -> Tensor:
        if start == "clean":
            return state.images
        if start == "best":
            return state.best[state.active]
        return random_point(state.images, Draws(state.keys, call), norm=self.norm, eps=self.eps)

    def _control(self, clean: Tensor, steps: int) -> StepControl:
        if self.control == "apgd":
            return AutoStep(clean, self.norm, self.eps, steps)
        return Cosine(clean, self.norm, self.eps, steps, momentum=float(self.momentum))

    def _redirected(self, victim: Victim, images: Tensor, labels: Tensor, gradient: Tensor, redirect: str) -> Tensor:
        if redirect == "evade":
            return evade(victim, images, gradient, 1.0)  # type: ignore[arg-type]
        if redirect == "branches":
            return branch_attack(victim, images, labels, gradient, 1.0)  # type: ignore[arg-type]
        return gradient

    def _begin(self, run: Run, routes: Routes) -> None:
        """What indicators read of the given gradient: on the cross-entropy, at the clean images."""
        gradient, values, _, _ = pooled_gradient(
            routes.ways[self.gradient], run.images, run.labels, cross_entropy, draws=self.eot
        )
        run.telemetry |= {"first_loss": values, "gradient_norm": lp_norm(gradient, "l2")}
        run.telemetry["nan_gradient"] = (~torch.isfinite(gradient).flatten(1).all(1)).float()

    @staticmethod
    def _record(state: Standing, here: Tensor, lost: Tensor) -> None:
        told = state.run.telemetry["nan_gradient"]
        told[state.active[here[lost]]] = 1.0

    def _end(self, run: Run, state: Standing) -> None:
        with torch.no_grad():
            values = torch.stack([cross_entropy(run.victim(state.best).float(), run.labels) for _ in range(self.eot)])
        run.telemetry["last_loss"] = values.mean(0)
        run.telemetry |= {"converged": state.converged.float(), "rounds": state.rounds.float()}
        if not state.converged.all():
            steps, draws = self._budget(self.rounds - 1)
            run.notes.append(f"not converged: more than {steps} steps and {draws} draws may take further samples")
