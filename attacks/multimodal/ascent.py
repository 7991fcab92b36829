"""The image step that Co-Attack, SGA and DRA share: sign steps up a loss of features, from a random start."""

from abc import abstractmethod
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from vlm_gauntlet.fixtures.draws import Draws
from vlm_gauntlet.fixtures.errors import GauntletError

from ..balls import lp_norm, project
from ..base import STRICT, Attack, Attacked, AttackResult, Context, Number, Run
from ..text.prompts import attacked_prompts
from ..text.rules import WordSwap
from ..text.sources.registry import build_source
from .paired import Paired


@dataclass(config=STRICT)
class PairAscent(Attack):
    """L-inf sign steps on a `Paired` victim. The start is random: at the clean image some losses are flat.

    Args:
        steps: gradient steps.
        step_size: length of a step, as a fraction of eps.
        random_start: uniform in the ball; `one-sided`: in [0, eps] alone, as Co-Attack's code has it.
        text: how class prompts are attacked, where a classifier is attacked; captions have rules of their own.
    """

    aims_text: ClassVar[bool]
    """Whether sentences are attacked against the image, or away from what they were."""

    losses_compare: ClassVar[bool] = False

    steps: Annotated[int, Field(ge=0)] = 10
    step_size: Number = Fraction(1, 4)
    random_start: Literal[True, "one-sided"] = True
    selection: Literal["final"] = "final"
    restarts: Literal[1] = 1
    reduction: Literal["sum"] = "sum"
    labels: Literal["true"] = "true"
    text: WordSwap | None = None

    @abstractmethod
    def guide(self, sentences: Tensor) -> Tensor:
        """Unit features [M, D] of one image's sentences -> what the image step reads of them [D]."""

    @abstractmethod
    def loss(self, victim: Paired, images: Tensor, clean: Tensor, draws: Draws) -> Tensor:
        """What to maximise: images [B, 3, H, W] and the clean images' unit features [B, D] -> [B]."""

    def viewpoint(self, victim: Paired, here: Tensor, previous: Tensor, origin: Tensor, draws: Draws) -> Tensor:
        """Where the gradient of a step is taken [B, 3, H, W]; it is applied at `here`. Not asked for the first step.

        Args:
            victim: as the attacker knows it.
            here: the current images.
            previous: the images one step earlier.
            origin: the clean images.
            draws: random numbers that the loss does not share.
        """
        return here

    def text_aim(self, victim: Paired, origin: Tensor, result: AttackResult) -> Tensor:
        """What sentences leave once the images are attacked [B, D]: the features of the attacked image."""
        return victim.features(result.images)

    @property
    def source_digest(self) -> str:
        """See Attack."""
        return build_source(self.text).digest if self.text else ""

    def attack_batch(self, context: Context) -> Attacked:
        """See Attack: every class prompt once, then each image with an eye on the attacked prompt of its class."""
        assert self.text is not None  # the registry refuses a protocol without it
        tower = context.known_backbone
        changed = attacked_prompts(tower, context.prompts, self.text)
        guides = tower.text_features(changed.prompts)[context.labels]
        victim = Paired(tower, guides, lambda features: tower.classify(features, changed.prompts))
        result = self(victim, context.images, context.labels, context.keys)
        return Attacked(result, changed.prompts, changed.notes)

    def perturb(self, run: Run) -> Tensor:
        """See Attack.

        Raises:
            GauntletError: the victim knows no sentences.
        """
        victim = run.victim
        if not isinstance(victim, Paired):
            raise GauntletError(
                f"a victim of type {type(victim).__name__}", expected="a Paired victim: features, and guides of text",
                where=type(self).__name__, fix="use a protocol of modality `both`",
            )  # fmt: skip
        with torch.no_grad():
            clean = victim.features(run.images)
        lowest = 0.0 if self.random_start == "one-sided" else -self.eps
        noise = Draws(run.keys).uniform(run.images, lowest, self.eps)
        images = run.previous = project(run.images + noise, run.images, norm=self.norm, eps=self.eps)
        for step in range(self.steps):
            view, draws = images, Draws(run.keys, call=step + 1)
            if step > 0:  # below 0: streams of their own, so that looking around does not change the loss
                view = self.viewpoint(victim, images, run.previous, run.images, Draws(run.keys, call=-step))
            gradient, values = slope(partial(self.loss, victim, clean=clean, draws=draws), view)
            if step == 0:
                run.telemetry |= {"first_loss": values.float(), "gradient_norm": lp_norm(gradient, "l2")}
            run.previous, images = images, self._stepped(images, gradient, run.images)
        with torch.no_grad():
            run.telemetry["last_loss"] = self.loss(victim, images, clean, Draws(run.keys, call=1)).float()
        return images

    def _stepped(self, images: Tensor, gradient: Tensor, origin: Tensor) -> Tensor:
        """One sign step, put back into the ball around `origin`."""
        moved = images + float(self.step_size) * self.eps * gradient.sign()
        return project(moved, origin, norm=self.norm, eps=self.eps)


def slope(loss: Callable[[Tensor], Tensor], images: Tensor) -> tuple[Tensor, Tensor]:
    """Gradient [B, 3, H, W] and values [B] of a loss that maps images to one number each."""
    with torch.enable_grad():
        inputs = images.detach().requires_grad_()
        values = loss(inputs)
        (gradient,) = torch.autograd.grad(values.sum(), inputs)
    return gradient, values.detach()
