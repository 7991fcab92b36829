"""TIMA's training (Ma et al. 2024, 2026): texts tuned with images in view (IAT), the image tower with texts (TAI).

    IAT: MHE(t) + CONSISTENCY KL(v0 t0 || v0 t)              on clean images; reaches the texts alone
    TAI: CE((cos(v(x_adv), t) + m_y) / tau, y)               reaches the tower alone
         + DISTILLATION KL(v0 t0 || v t0), in the version of 2024

v0, t0: before the training. Weights of the terms, size of the margins and that the two step together are ours.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.training.adversary import worst_images
from vlm_gauntlet.training.job import TrainingJob
from vlm_gauntlet.training.recipe import Phase
from vlm_gauntlet.training.samples import Batch
from vlm_gauntlet.training.tower import TowerTraining, train_tower

from .losses import (
    distance_margins,
    hyperspherical_energy,
    kept_predictions,
    margin_cross_entropy,
    similarity_margins,
)
from .text_map import TextMap

MARGIN = 0.05  # the largest, as a cosine; with CLIP's scale of 100 it is 5 logits
CONSISTENCY = 1.0
DISTILLATION = 1.0


class TIMATraining(TowerTraining):
    """The whole image tower, and a linear map of the class texts or a table of them (deviation `tuned_text`).

    Attributes:
        original: t0 [K, D].
        margins: [K, K], of the original texts.
    """

    terms = ("margin", "energy", "consistency", "distillation")

    def __init__(self, base: Backbone, prompts: PromptSet, deviations: Mapping[str, str]) -> None:
        super().__init__(base, prompts, deviations)
        self.original = base.text_features(prompts)
        self.first = deviations.get("version") == "arxiv-2024"
        self.margins = (distance_margins if self.first else similarity_margins)(self.original, MARGIN)
        self.map = TextMap(torch.zeros(self.original.shape[1], self.original.shape[1], device=base.device))
        as_table = deviations.get("tuned_text") == "table"
        self._texts = {"text.table": self.original.clone()} if as_table else {"text.shift": self.map.shift}

    @property
    def weights(self) -> Mapping[str, Tensor]:
        """See Training."""
        return {**self._weights, **self._texts}

    def groups(self, phase: str) -> Mapping[str, list[str]]:
        """See Training: `image` and `text`."""
        return {"image": list(self._weights), "text": list(self._texts)}

    @property
    def beside(self) -> Mapping[str, Tensor]:
        """See TowerTraining. A table is of no use to other classes, and is not kept."""
        return {"shift": self.map.shift} if "text.shift" in self._texts else {}

    def texts(self) -> Tensor:
        """The tuned class texts t [K, D], of unit length."""
        return F.normalize(self._texts["text.table"], dim=-1) if not self.beside else self.map(self.original)

    def loss(self, batch: Batch, phase: Phase) -> dict[str, Tensor]:
        """See Training."""
        images, labels, scale = batch["images"], batch["labels"], self.base.logit_scale
        texts = self.texts()
        seen = texts.detach()  # the tower aims at the texts as they stand
        with torch.no_grad():
            before = F.normalize(self.base.encode_image(images), dim=-1)
            reference = scale * before @ self.original.T

        def cosines(x: Tensor, targets: Tensor) -> Tensor:
            return F.normalize(self.student.encode_image(x), dim=-1) @ targets.T

        found = worst_images(
            lambda x: F.cross_entropy(scale * cosines(x, seen), labels), images, batch.keys, phase.budget
        )
        terms = {
            "margin": margin_cross_entropy(cosines(found, seen), labels, self.margins, scale),
            "energy": hyperspherical_energy(texts),
            "consistency": CONSISTENCY * kept_predictions(reference, scale * before @ texts.T),
        }
        if self.first:
            tuned = scale * cosines(images, self.original)
            terms["distillation"] = DISTILLATION * kept_predictions(reference, tuned)
        return terms


def train(job: TrainingJob) -> Path:
    """Fine-tunes the image tower and the texts; returns the checkpoint's path."""
    return train_tower(job, TIMATraining)
