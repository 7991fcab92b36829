"""FT-standard's training (the baseline of Zhou et al. 2024): class texts, clean pictures."""

from collections.abc import Mapping
from pathlib import Path

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.training.job import TrainingJob
from vlm_gauntlet.training.tower import train_tower

from ..ft_clean.train import CleanTraining

LAST = 14  # tensors: a block of CLIP's transformer has 12, the layer norm behind it 2


class StandardTraining(CleanTraining):
    """The image tower on clean pictures, against the texts of all classes.

    The deviation `parameters`: `last-block` trains the last tensors of the tower's list alone. CLIP's projection stands
    at the front of that list and stays as it was.
    """

    usual_loss = "class-texts"

    def __init__(self, base: Backbone, prompts: PromptSet, deviations: Mapping[str, str]) -> None:
        super().__init__(base, prompts, deviations)
        if deviations.get("parameters") == "last-block":
            self._weights = dict([*self._weights.items()][-LAST:])


def train(job: TrainingJob) -> Path:
    """Fine-tunes the image tower; returns the checkpoint's path."""
    return train_tower(job, StandardTraining)
