"""TAPT's preparation: prompts tuned on adversarial pictures (APT-V, -VLI, -VLJ), then statistics of clean pictures.

The phase `clean` tunes other prompts in the same way, without an attack, for the clean statistics.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.fixtures.visual_prompts import TokenStatistics, visual_prompts
from vlm_gauntlet.training.adversary import worst_images
from vlm_gauntlet.training.checkpoint import packed_tensors
from vlm_gauntlet.training.job import TrainingJob
from vlm_gauntlet.training.recipe import Phase
from vlm_gauntlet.training.samples import Batch, InMemory
from vlm_gauntlet.training.trainer import ONE_GROUP, Training

from .losses import prompted
from .pretuned import DeepPrompts, Pretuned, untrained

PHASES = ("robust", "clean")


class PromptTraining(Training):
    """Prompts of a frozen backbone, one set in each phase.

    Args:
        backbone: frozen.
        start: initial prompts [B = 1] of both phases.
        prompts: the classes.
    """

    terms = ("prompted",)

    def __init__(self, backbone: Backbone, start: DeepPrompts, prompts: PromptSet) -> None:
        self.backbone, self.prompts, self.start = backbone, prompts, backbone.digest
        self.learned = {phase: start.repeated(1) for phase in PHASES}

    @property
    def weights(self) -> Mapping[str, Tensor]:
        """See Training."""
        return {f"{phase}.{n}": t for phase, learned in self.learned.items() for n, t in learned.tensors.items()}

    def groups(self, phase: str) -> Mapping[str, list[str]]:
        """See Training."""
        return {ONE_GROUP: [f"{phase}.{name}" for name in self.learned[phase].tensors]}

    def loss(self, batch: Batch, phase: Phase) -> dict[str, Tensor]:
        """See Training."""

        def objective(images: Tensor) -> Tensor:
            logits = self.learned[phase.name].logits(self.backbone, images[None], self.prompts)[0]
            return prompted(logits, batch["labels"])

        return {"prompted": objective(worst_images(objective, batch["images"], batch.keys, phase.budget))}

    def tuned(self, phase: str) -> DeepPrompts:
        """The prompts of a phase, as constants."""
        learned = self.learned[phase]
        return learned.of({name: tokens.detach() for name, tokens in learned.tensors.items()})


def clean_statistics(backbone: Backbone, prompts: DeepPrompts, images: Tensor) -> TokenStatistics:
    """Unbiased statistics [1, layers, tokens, W] of pictures [N, 3, S, S] under some prompts."""
    tokens: list[list[Tensor]] = []
    with torch.no_grad():
        for part in torch.split(images, 256):
            tokens.append([])
            with visual_prompts(backbone, prompts.visual_tokens, tokens[-1], normed=prompts.normed):
                backbone.encode_image(part.to(backbone.device))
    return TokenStatistics.of([torch.cat(layer) for layer in zip(*tokens, strict=True)], len(images), unbiased=True)


def train(job: TrainingJob) -> Path:
    """Tunes prompts on sixteen pictures of each class, in minutes; returns the checkpoint's path."""
    samples = job.samples(purpose=())
    normed = job.switches["first_tokens"] == "layer-norm"
    start = untrained(job.base, job.switches["variant"], job.seed, normed=normed)
    training = PromptTraining(job.base, start, job.dataset.prompts)
    job.fit(training, samples)
    assert isinstance(samples, InMemory)  # few shots always are
    images = samples.tensors["images"].float() / 255
    robust, clean = (clean_statistics(job.base, training.tuned(phase), images) for phase in PHASES)
    made = Pretuned(training.tuned("robust"), robust, clean)
    return job.finish(packed_tensors(made.tensors, int8=False))
