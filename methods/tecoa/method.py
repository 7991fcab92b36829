"""TeCoA (Mao et al., ICLR 2023, arXiv 2212.07016): an image tower fine-tuned on adversarial images.

Training is in `train.py`. At inference the method is zero-shot classification with the tuned tower.
"""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.prompts import PromptSet

from ..base import Defence
from ..checkpoints import load_checkpoint


class TeCoA(Defence):
    """Cosine classifier over class texts with the tuned image tower.

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
        changed = [
            f"+{d.name}={self.deviations[d.name]}"
            for d in self.card.deviations
            if self.deviations[d.name] != d.choices[0]
        ]
        name = "".join([backbone.name, *sorted(changed)])
        train_with = f"gauntlet train tecoa{''.join(sorted(changed))} --backbone {backbone.name} --data DIR"
        difference = load_checkpoint(Path(__file__).parent, name, backbone, train_with=train_with)
        self.robust = backbone.tuned({k: mix_alpha * v for k, v in difference.items()})

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
