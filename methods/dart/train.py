"""DART's training (Huang et al. 2026), on a labelled source x_s, y_s and an unlabelled target x_t.

adapt       CE(S(x_s), y_s) + shift(f(x_s), f(x_t))                                   the teacher T is S at its end
robustify   KL(T(x_t) || S(x_t)) + KL(T(x_t) || S(x')),  x' = argmax KL(T(x_t) || S(x'))
"""

from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.training.adversary import worst_images
from vlm_gauntlet.training.checkpoint import packed_difference
from vlm_gauntlet.training.job import TrainingJob
from vlm_gauntlet.training.recipe import Phase
from vlm_gauntlet.training.samples import Batch, InMemory
from vlm_gauntlet.training.state import digest_of
from vlm_gauntlet.training.tower import TowerTraining

from .domains import domains
from .losses import distilled, shift

TEACHER = "teacher."


class DARTTraining(TowerTraining):
    """The whole image tower. A resumed run restores the teacher with the student; it is never trained."""

    terms = ("source", "shift", "clean", "robust")
    couples_batch = True

    def __init__(self, base: Backbone, prompts: PromptSet, deviations: Mapping[str, str]) -> None:
        super().__init__(base, prompts, deviations)
        self.teacher = base.tuned({})
        self.tower = dict(self._weights)
        named = dict(self.teacher.clip.visual.named_parameters())
        self._weights |= {TEACHER + name: named[name] for name in self.tower}

    def groups(self, phase: str) -> Mapping[str, list[str]]:
        """The student's tower."""
        return {"all": list(self.tower)}

    def loss(self, batch: Batch, phase: Phase) -> dict[str, Tensor]:
        """See Training; the batch has `images` and `labels` of the source, and `target`."""
        if phase.name == "robustify":
            return self._robustified(batch, phase)
        source, target, labels = batch["images"], batch["target"], batch["labels"]
        if phase.name == "entangled":
            source = worst_images(
                lambda x: F.cross_entropy(self.student(x, self.prompts), labels), source, batch.keys, phase.budget
            )
        features = self.student.encode_image(source)
        apart = shift(features, self.student.encode_image(target))
        return {"source": F.cross_entropy(self.student.classify(features, self.prompts), labels), "shift": apart}

    def _robustified(self, batch: Batch, phase: Phase) -> dict[str, Tensor]:
        target = batch["target"]
        with torch.no_grad():
            taught = self.teacher(target, self.prompts)

        def apart(images: Tensor) -> Tensor:
            return distilled(self.student(images, self.prompts), taught)

        return {"clean": apart(target), "robust": apart(worst_images(apart, target, batch.keys, phase.budget))}

    def after_step(self, phase: Phase) -> None:
        """See Training: the teacher is the student at the end of its adaptation."""
        if phase.name == "adapt":
            with torch.no_grad():
                for name, tensor in self.tower.items():
                    self._weights[TEACHER + name].copy_(tensor)


def train(job: TrainingJob) -> Path:
    """Trains on the domains of `--data`: emoji styles of what `gauntlet train-miniclip` fetched, or PACS."""
    prompts, tensors = domains(job)
    training = DARTTraining(job.base, prompts, job.switches)
    job.fit(training, InMemory(tensors, seed=job.seed, digest=digest_of(tensors)))
    return job.finish(packed_difference(job.base.clip.visual.state_dict(), training.tower, levels=job.recipe.levels))
