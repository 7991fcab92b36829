"""C-AVP's training (Chen et al. 2023, section 3): cross-entropy clean and attacked, and margins between the prompts."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.training.adversary import worst_images
from vlm_gauntlet.training.checkpoint import packed_tensors
from vlm_gauntlet.training.job import TrainingJob
from vlm_gauntlet.training.recipe import Phase
from vlm_gauntlet.training.samples import Batch
from vlm_gauntlet.training.trainer import Training

from .losses import by_class, margins
from .method import Frames, prompted_logits

BETA = 3.0  # weight of the margins


class FrameTraining(Training):
    """The frames of a frozen backbone, from zero.

    Args:
        backbone: frozen.
        prompts: the classes.
        universal: one frame for all classes; then there are no margins.
        margins: whether to add them (C-AVP-v0 is without).
    """

    terms = ("clean", "adversarial", "margins")
    couples_batch = True  # means over the samples of a class

    def __init__(self, backbone: Backbone, prompts: PromptSet, *, universal: bool, margins: bool) -> None:
        self.backbone, self.prompts, self.start = backbone, prompts, backbone.digest
        self.universal, self.margins = universal, margins and not universal
        size, count = backbone.image_size, 1 if universal else len(prompts)
        pixels = torch.zeros(count, 3, size, size, device=backbone.device)
        self.learned = Frames(pixels, prompts.class_names)

    @property
    def weights(self) -> Mapping[str, Tensor]:
        """See Training."""
        return {"pixels": self.learned.pixels}

    def loss(self, batch: Batch, phase: Phase) -> dict[str, Tensor]:
        """See Training."""
        images, labels = batch["images"], batch["labels"]
        if self.margins:
            everything = range(len(self.prompts))
            logits = prompted_logits(self.backbone, self.learned, images, [*everything], self.prompts)
            clean = logits[torch.arange(len(labels), device=labels.device), labels]
        else:
            clean = self.backbone(self.own(images, labels), self.prompts)
        terms = {"clean": by_class(clean, labels), "adversarial": self.attacked(batch, phase)}
        return terms | ({"margins": BETA * margins(logits.softmax(-1), labels)} if self.margins else {})

    def own(self, images: Tensor, labels: Tensor) -> Tensor:
        """Each picture under the frame of its class."""
        which = [0] * len(labels) if self.universal else labels.tolist()
        framed = [self.learned.on(image[None], [k])[0] for image, k in zip(images, which, strict=True)]
        return torch.cat(framed)

    def attacked(self, batch: Batch, phase: Phase) -> Tensor:
        """Cross-entropy on prompted pictures that were attacked as they are: the attack does not know of the frame."""
        labels, framed = batch["labels"], self.own(batch["images"], batch["labels"])

        def objective(images: Tensor) -> Tensor:
            return by_class(self.backbone(images, self.prompts), labels)

        found = worst_images(objective, framed.detach(), batch.keys, phase.budget)
        return objective(framed + (found - framed.detach()))  # the frame's gradient, under a constant perturbation


def train(job: TrainingJob) -> Path:
    """Learns the frames; returns the checkpoint's path."""
    universal, with_margins = job.switches["prompts"] == "universal", job.switches["loss"] == "margins"
    training = FrameTraining(job.base, job.dataset.prompts, universal=universal, margins=with_margins)
    job.fit(training, job.samples())
    return job.finish(packed_tensors(training.learned.tensors, int8=False))
