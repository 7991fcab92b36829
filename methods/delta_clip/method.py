"""ΔCLIP (Double Visual Defense; Wang et al. 2025, arXiv 2501.09446): CLIP pre-trained on adversarial images.

At inference it is plain zero-shot classification. Training: `train.py`; the authors' weights: `released.py`.
"""

from typing import ClassVar

from vlm_gauntlet.fixtures.backbone import OUTSIDE, Backbone

from ..own_checkpoint import own_checkpoint
from ..tuned import TunedDefence
from .released import NAMES, fetched, load_released

IMAGE = "visual."  # starts the names of an image tower's parameters in a checkpoint, which are those of the whole model


class DeltaCLIP(TunedDefence):
    """Both towers are others than the backbone's; for a real CLIP, those that the authors released for its size.

    Raises:
        UnavailableError: no checkpoint for this backbone; says how to train or to fetch one.
    """

    at_inference: ClassVar[frozenset[str]] = frozenset({"row_end"})

    def tuned_from(self, backbone: Backbone) -> Backbone:
        """See TunedDefence. What is not in the checkpoint stays (the token table)."""
        if backbone.name in NAMES:
            first_row_decides = self.deviations["row_end"] == "first-row"
            released = load_released(fetched(backbone.name), first_row_decides=first_row_decides).to(backbone.device)
            released.passes = backbone.passes
            return released
        weights = own_checkpoint(self, backbone, but=self.at_inference, data="miniclip-sources")
        named = {n.removeprefix(IMAGE) if n.startswith(IMAGE) else OUTSIDE + n: t for n, t in weights.items()}
        return backbone.tuned(named, whole=True)
