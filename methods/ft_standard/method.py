"""FT-standard (the baseline of Zhou et al., arXiv 2404.19287): fine-tuning on clean pictures of the task.

Training is in `train.py`. At inference: zero-shot classification with what was tuned; with `parameters=linear-probe` a
linear classifier of its own classes (`linear_probe.py`).
"""

from collections.abc import Mapping

from torch import Tensor

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.errors import UnavailableError
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.training.checkpoint import set_apart

from ..own_checkpoint import own_checkpoint
from ..tuned import TunedDefence
from .linear_probe import LinearProbe


class FTStandard(TunedDefence):
    """See TunedDefence."""

    def __init__(self, backbone: Backbone, deviations: Mapping[str, str] | None = None) -> None:
        super().__init__(backbone, deviations)
        probes = self.deviations["parameters"] == "linear-probe"
        self.probe = LinearProbe.of(set_apart(own_checkpoint(self, backbone))[1]) if probes else None

    @property
    def tuned_backbone(self) -> Backbone:
        """See Defence.

        Raises:
            UnavailableError: a linear probe, which leaves the backbone as it is.
        """
        if self.probe is not None:
            raise UnavailableError(
                "a linear probe as a backbone", expected="a method that tunes an encoder", where="ft_standard",
                fix="leave out +parameters=linear-probe, or stand on the undefended backbone",
            )  # fmt: skip
        return self.robust

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        """See Defence. A probe reads no sentence: an attack on text does not reach it.

        Raises:
            UnavailableError: a linear probe is asked for classes that it was not trained on.
        """
        if self.probe is None:
            return super().forward(images, prompts)
        return self.probe(self.robust.encode_image(images), prompts.class_names)  # type: ignore[no-any-return]
