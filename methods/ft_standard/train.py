"""FT-standard's training (the baseline of Zhou et al. 2024): clean pictures, and what is trained on them."""

from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.errors import GauntletError
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.training.job import TrainingJob
from vlm_gauntlet.training.recipe import Phase
from vlm_gauntlet.training.samples import Batch
from vlm_gauntlet.training.tower import BothTowersTraining, TowerTraining, train_tower

from ..ft_adv.losses import one_hot
from ..ft_clean.losses import in_batch
from ..ft_clean.train import CleanTraining
from .linear_probe import LinearProbe

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


class PairTraining(BothTowersTraining):
    """The whole model on pairs of a clean picture and the first sentence of its class, as MMCoA has one for each."""

    terms = ("contrast",)

    def __init__(self, base: Backbone, prompts: PromptSet, deviations: Mapping[str, str]) -> None:
        super().__init__(base, prompts, deviations)
        self.couples_batch = deviations.get("loss") == "in-batch"

    def loss(self, batch: Batch, phase: Phase) -> dict[str, Tensor]:
        """See Training."""
        sentences, labels = [group[0] for group in self.prompts.prompts], batch["labels"]
        if self.couples_batch:  # a sentence of no picture here plays no part, one that stands twice is read once
            present, labels = torch.unique(labels, return_inverse=True)
            sentences = [sentences[i] for i in present.tolist()]
        features = F.normalize(self.student.encode_image(batch["images"]), dim=-1)
        logits = self.student.logit_scale * features @ self.texts(sentences).T
        return {"contrast": in_batch(logits, labels) if self.couples_batch else F.cross_entropy(logits, labels)}


class ProbeTraining(TowerTraining):
    """Rows in place of class texts, from zero; both encoders stay as they are."""

    terms = ("contrast",)

    def __init__(self, base: Backbone, prompts: PromptSet, deviations: Mapping[str, str]) -> None:
        super().__init__(base, prompts, deviations)
        self.rows = torch.zeros_like(base.text_features(prompts))

    @property
    def weights(self) -> Mapping[str, Tensor]:
        """See Training."""
        return {"rows": self.rows}

    @property
    def beside(self) -> Mapping[str, Tensor]:
        """See TowerTraining: the rows, and whose they are."""
        return LinearProbe(self.rows.detach(), self.prompts.class_names).tensors

    def loss(self, batch: Batch, phase: Phase) -> dict[str, Tensor]:
        """See Training."""
        with torch.no_grad():
            features = self.base.encode_image(batch["images"])
        return {"contrast": one_hot(features, self.rows, batch["labels"])}


def train(job: TrainingJob) -> Path:
    """Fine-tunes what the switches say; returns the checkpoint's path.

    Raises:
        GauntletError: both encoders are asked for, and a part of one.
    """
    both, parameters = job.switches["encoders"] == "both", job.switches["parameters"]
    if both and parameters != "tower":
        raise GauntletError(
            f"encoders=both with parameters={parameters}", expected="both encoders, or a part of the image encoder",
            where="METHOD", fix="leave one of the two switches out",
        )  # fmt: skip
    if parameters == "linear-probe":
        return train_tower(job, ProbeTraining)
    return train_tower(job, PairTraining if both else StandardTraining)
