"""A fine-tuned defence: zero-shot classification with a tower that `training/tower.py` made."""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from torch import Tensor, nn

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.training.checkpoint import set_apart

from .base import Defence
from .own_checkpoint import own_checkpoint
from .released import SWITCH, tower_of


class TunedDefence(Defence):
    """Cosine classifier over class texts with the tuned tower or towers, found by backbone and deviations.

    The switch `mix`, where a card has it, interpolates weights: theta = (1 - mix) theta_clip + mix theta_robust.
    `released=<id>` takes weights that the authors released in place of a training of ours: see `released.py`.

    Args:
        backbone: the undefended model; a checkpoint belongs to exactly one.

    Attributes:
        at_inference: switches that need no checkpoint of their own.

    Raises:
        UnavailableError: no checkpoint for this backbone and these deviations; says how to train one.
    """

    at_inference: ClassVar[frozenset[str]] = frozenset({"mix"})

    def __init__(self, backbone: Backbone, deviations: Mapping[str, str] | None = None) -> None:
        chosen = dict(deviations or {})
        released = chosen.pop(SWITCH, "")
        super().__init__(backbone, chosen)
        folder = Path(inspect.getfile(type(self))).parent
        self.robust = tower_of(folder, released, backbone) if released else self.tuned_from(backbone)

    def tuned_from(self, backbone: Backbone) -> Backbone:
        """The backbone with what the checkpoint says of its towers."""
        difference, beside = set_apart(own_checkpoint(self, backbone, but=self.at_inference))
        mix = float(self.deviations.get("mix", 1))
        towers = {name: mix * tensor for name, tensor in difference.items()}
        return backbone.tuned(towers, text_map=self.text_map(beside))

    def text_map(self, beside: Mapping[str, Tensor]) -> nn.Module | None:
        """How the class texts are moved, from what the checkpoint keeps beside the towers; by default they are not."""
        return None

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
