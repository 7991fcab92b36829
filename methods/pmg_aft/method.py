"""PMG-AFT (Wang et al., CVPR 2024, arXiv 2401.04350): adversarial fine-tuning that the frozen original guides.

The losses are in `losses.py`, training in `train.py`. At inference the method is zero-shot classification with the
tuned tower, at CLIP's own logit scale whatever the training's temperature was.
"""

from collections.abc import Mapping

from vlm_gauntlet.fixtures.backbone import Backbone

from ..normalisation import normalised_as_imagenet
from ..tuned import TunedDefence


class PMGAFT(TunedDefence):
    """See TunedDefence."""

    def __init__(self, backbone: Backbone, deviations: Mapping[str, str] | None = None) -> None:
        super().__init__(backbone, deviations)
        if self.deviations["normalisation"] == "imagenet":
            self.robust = normalised_as_imagenet(self.robust)
