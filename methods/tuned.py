"""A fine-tuned defence: zero-shot classification with a tower that `training/tower.py` made."""

import inspect
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.training.checkpoint import load_checkpoint

from .base import Defence


class TunedDefence(Defence):
    """Cosine classifier over class texts with the tuned image tower, found by backbone and deviations.

    Args:
        backbone: the undefended model; a checkpoint belongs to exactly one.
        mix_alpha: weight interpolation, theta = (1 - a) theta_clip + a theta_robust (official flag of that name).

    Raises:
        UnavailableError: no checkpoint for this backbone and these deviations; says how to train one.
    """

    def __init__(
        self, backbone: Backbone, deviations: Mapping[str, str] | None = None, *, mix_alpha: float = 1.0
    ) -> None:
        super().__init__(backbone, deviations)
        default = {d.name: d.choices[0] for d in self.card.deviations}
        switches = "".join(sorted(f"+{n}={c}" for n, c in self.deviations.items() if c != default[n]))
        train_with = f"gauntlet train {self.card.id}{switches} --backbone {backbone.name} --data DIR"
        folder = Path(inspect.getfile(type(self))).parent
        difference = load_checkpoint(folder, backbone.name + switches, backbone, train_with=train_with)
        self.robust = backbone.tuned({name: mix_alpha * tensor for name, tensor in difference.items()})

    @property
    def tuned_backbone(self) -> Backbone:
        """See Defence."""
        return self.robust

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        """See Defence."""
        return self.robust(images, prompts)

    def surrogate(self, images: Tensor, prompts: PromptSet) -> Tensor:
        """Smooth and deterministic: the attacker needs nothing better than the model itself."""
        return self.forward(images, prompts)
