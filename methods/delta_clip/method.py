"""ΔCLIP (Double Visual Defense; Wang et al. 2025, arXiv 2501.09446): CLIP pre-trained on adversarial images.

At inference it is plain zero-shot classification. Training: `train.py`; the authors' weights: `released.py`.
"""

import copy
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.files import sha256
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.training.checkpoint import load_checkpoint

from ..base import Defence
from .released import NAMES, fetched, load_released

FOLDER = Path(__file__).parent


class DeltaCLIP(Defence):
    """Both towers are others than the backbone's; for a real CLIP, those that the authors released for its size.

    Raises:
        UnavailableError: no checkpoint for this backbone; says how to train or to fetch one.
    """

    def __init__(self, backbone: Backbone, deviations: Mapping[str, str] | None = None) -> None:
        super().__init__(backbone, deviations)
        if backbone.name in NAMES:
            first_row_decides = self.deviations["row_end"] == "first-row"
            self.robust = load_released(fetched(backbone.name), first_row_decides=first_row_decides)
            self.robust.to(backbone.device)
        else:
            train_with = f"gauntlet train delta_clip --backbone {backbone.name} --data miniclip-sources"
            self.robust = with_towers(backbone, load_checkpoint(FOLDER, backbone.name, backbone, train_with=train_with))
        self.robust.passes = backbone.passes

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


def with_towers(backbone: Backbone, weights: Mapping[str, Tensor]) -> Backbone:
    """A copy with these parameters in place of its own; what is not among them is kept (the token table)."""
    twin = copy.copy(backbone)
    twin._modules = dict(backbone._modules)
    twin.clip = copy.deepcopy(backbone.clip)
    twin._text_cache = {}  # the texts' features are others, too
    own = dict(twin.clip.named_parameters())
    with torch.no_grad():
        for name, tensor in weights.items():
            own[name].copy_(tensor)
    held = sorted((name, sha256(tensor.cpu().contiguous().numpy().tobytes())) for name, tensor in weights.items())
    twin.text_digest = sha256(repr((backbone.text_digest, held)).encode())  # attacked texts are kept by it
    return twin
