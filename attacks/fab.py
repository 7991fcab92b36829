"""FAB-T (Croce and Hein 2020, arXiv 1907.02044): the nearest boundary to each of the likeliest wrong classes.

The steps are the official code's `attack_single_run`; never its `perturb`, which seeds torch globally. Without random
restarts it draws nothing. Its gradient is ours, because the official one leaves `.grad` in the model's parameters.
"""

from functools import partial
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from .adaptive.eot import input_gradient
from .autoattack import official, source
from .balls import lp_norm
from .base import STRICT, AttackInfo, Run, Victim
from .gradients import GradientAttack
from .losses import lead, margin, wrong_classes

library = official("fab_base")


@dataclass(config=STRICT)
class FABT(GradientAttack):
    """Minimises the distance; a sample is broken when what was found lies inside eps, else it stays as it was.

    Args:
        steps: iterations for each target.
        n_targets: at most so many classes; capped by the number of wrong ones.
    """

    info = AttackInfo(
        "fab-t",
        "Minimal-norm steps to the boundary of up to 9 classes, the third part of AutoAttack",
        "Croce and Hein 2020, arXiv:1907.02044",
    )

    steps: Annotated[int, Field(ge=1)] = 100
    n_targets: Annotated[int, Field(ge=1)] = 9
    eot: Literal[1] = Field(default=1, kw_only=True)
    selection: Literal["any-iterate"] = "any-iterate"
    random_start: Literal[False] = False
    restarts: Literal[1] = 1
    reduction: Literal["sum"] = "sum"

    def perturb(self, run: Run) -> Tensor:
        """See Attack. Samples already misclassified are returned as they are; telemetry: the smallest `radius`."""
        gradient, _, wrong = input_gradient(run.victim, run.images, run.labels, margin)
        with torch.no_grad():
            ranked = wrong_classes(run.victim(run.images).float(), run.labels)[:, : self.n_targets]
        targets = ranked.shape[1]
        if targets < self.n_targets:
            run.notes.append(f"fab-t: {targets} targets instead of {self.n_targets}, there are {targets + 1} classes")
        run.notes.append(f"single attacks: fab-t, from {source('fab_base', 'fab_projections')}")
        best, radius = run.images.clone(), torch.where(wrong, 0.0, torch.inf)
        lost = ~torch.isfinite(gradient).flatten(1).all(1)
        active = (~wrong).nonzero().squeeze(1)
        victim = run.victim.select(active)
        for rank in range(targets):
            if len(active) == 0:
                break
            single = Single(self, victim, run.labels[active], ranked[active, rank])
            found, distance = single(run.images[active])
            lost[active] |= single.lost
            radius[active] = torch.minimum(radius[active], distance)
            broken = distance <= self.eps
            best[active[broken]] = found[broken]
            victim, active = victim.select((~broken).nonzero().squeeze(1)), active[~broken]
        run.telemetry |= {
            "gradient_norm": lp_norm(gradient, "l2"), "nan_gradient": lost.float(), "radius": radius,
        }  # fmt: skip
        return best


class Single(library.FABAttack):  # type: ignore[misc, name-defined]
    """FAB towards one class a sample.

    Args:
        attack: norm, radius and budget.
        victim: bound to these samples, all of them classified right.
        labels: true classes [B].
        target: classes to reach [B].

    Attributes:
        lost: samples [B] for which a gradient was not finite.
    """

    def __init__(self, attack: FABT, victim: Victim, labels: Tensor, target: Tensor) -> None:
        norm = {"linf": "Linf", "l2": "L2"}[attack.norm]
        super().__init__(norm=norm, n_iter=attack.steps, eps=attack.eps, targeted=True, device=labels.device)
        self.victim, self.labels, self.target = victim, labels, target
        self.lost = torch.zeros_like(labels, dtype=torch.bool)
        self.target_class = 1  # the library's "last in ascending order"; `_predict_fn` puts the target there
        self.started = False

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images [B, 3, H, W] -> what was found, and its distance [B], infinite where it is not misclassified."""
        with torch.no_grad():
            found: Tensor = self.attack_single_run(images, self.labels, is_targeted=True)
            wrong = self.victim(found).argmax(1) != self.labels
        norm = {"Linf": "linf", "L2": "l2"}[self.norm]
        return found, torch.where(wrong, lp_norm(found - images, norm), torch.inf)

    def _predict_fn(self, x: Tensor) -> Tensor:
        """What the library takes its targets from."""
        return F.one_hot(self.target)

    def _get_predicted_label(self, x: Tensor) -> Tensor:
        """Classes [B]; the library's first question drops samples, and these are all known to be right."""
        if not self.started:
            self.started = True
            return self.labels
        with torch.no_grad():
            return self.victim(x).argmax(1)

    def get_diff_logits_grads_batch_targeted(
        self, imgs: Tensor, la: Tensor, la_target: Tensor
    ) -> tuple[Tensor, Tensor]:
        """How far the target's logit is ahead [B, 1], and the gradient of that [B, 1, 3, H, W].

        A sample without a gradient stays where it is: a plane through it, not the library's division by zero.
        """
        gradient, ahead, _ = input_gradient(self.victim, imgs, la, partial(lead, la_target))
        self.lost |= ~torch.isfinite(gradient).flatten(1).all(1)
        gradient = gradient.nan_to_num(0.0, 0.0, 0.0)
        flat = (gradient == 0).flatten(1).all(1)
        gradient[flat], ahead[flat] = 1.0, 0.0
        return ahead[:, None], gradient[:, None]
