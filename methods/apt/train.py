"""APT's training (Li et al. 2024, section 3.2): pictures attacked through the prompted model, then a step on V."""

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.draws import Draws
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.training.adversary import worst_images
from vlm_gauntlet.training.checkpoint import packed_tensors
from vlm_gauntlet.training.job import TrainingJob
from vlm_gauntlet.training.recipe import Phase
from vlm_gauntlet.training.samples import Batch
from vlm_gauntlet.training.trainer import Training

from ..learned_context import CONTEXT, LearnedContext, cosine_logits
from ..views import draw_views
from .losses import adversarial
from .method import image_tower

WORDS = "a photo of a {}"  # of the strategy `constant`; without a full stop
PROMPT_STEP = 0.002  # ours: the length of an ascent on the context (strategy `perturbed`) is stated nowhere
CROPS = 1  # the call of the draws that crops come from: the attack's own is 0


class ContextTraining(Training):
    """The context alone; both towers are frozen.

    Args:
        tower: the image tower, with the backbone's text tower.
        learned: where the context starts.
        prompts: the classes.
        strategy: `onfly`, `constant` or `perturbed`.
        crops: whether pictures are cropped and mirrored at random first.
    """

    terms = ("adversarial",)

    def __init__(
        self, tower: Backbone, learned: LearnedContext, prompts: PromptSet, strategy: str, *, crops: bool = False
    ) -> None:
        self.tower, self.prompts, self.strategy, self.start = tower, prompts, strategy, tower.digest
        self.crops = crops
        self.learned = learned.with_vectors(learned.vectors.clone())

    @property
    def weights(self) -> Mapping[str, Tensor]:
        """See Training."""
        return {CONTEXT: self.learned.vectors}

    def loss(self, batch: Batch, phase: Phase) -> dict[str, Tensor]:
        """See Training."""
        images, labels = batch["images"], batch["labels"]
        if self.crops:
            views = draw_views(images, Draws(batch.keys, CROPS), 2)
            images = views.render(images, self.tower.image_size)[:, 1]
        found = worst_images(self.objective(labels), images, batch.keys, phase.budget)
        return {"adversarial": adversarial(self.logits(found, self.class_weights(self.learned.vectors)), labels)}

    def objective(self, labels: Tensor) -> Callable[[Tensor], Tensor]:
        """What the attack raises: images -> loss, without a graph to the context that is learned."""
        if self.strategy == "perturbed":
            return JointAscent(self, labels)
        if self.strategy == "constant":
            words = PromptSet.from_templates(self.prompts.class_names, [WORDS])
            weights = self.tower.text_features(words)
        else:
            weights = self.class_weights(self.learned.vectors.detach())
        return lambda images: adversarial(self.logits(images, weights), labels)

    def class_weights(self, vectors: Tensor) -> Tensor:
        """Unit class weights [K, D] under some vectors."""
        return self.learned.with_vectors(vectors).class_weights(self.tower, self.prompts)

    def logits(self, images: Tensor, weights: Tensor) -> Tensor:
        """Images [B, 3, H, W] and class weights [K, D] -> logits [B, K]."""
        return cosine_logits(self.tower, self.tower.encode_image(images), weights)


class JointAscent:
    """The strategy `perturbed`: each step up in the pictures is one in a copy of the context as well, by plain SGD."""

    def __init__(self, training: ContextTraining, labels: Tensor) -> None:
        self.training, self.labels, self.vectors = training, labels, training.learned.vectors.detach().clone()

    def __call__(self, images: Tensor) -> Tensor:
        """The loss at both as they stand, for the step in the pictures; then the context's step."""
        vectors = self.vectors.requires_grad_()
        loss = adversarial(self.training.logits(images, self.training.class_weights(vectors)), self.labels)
        (gradient,) = torch.autograd.grad(loss, vectors, retain_graph=True)
        self.vectors = (vectors + PROMPT_STEP * gradient).detach()
        return loss


def train(job: TrainingJob) -> Path:
    """Learns the context, in minutes; returns the checkpoint's path."""
    switches = job.switches
    start = LearnedContext.untrained(
        job.base, int(switches["tokens"]), job.dataset.class_names, each=switches["contexts"] == "class-specific",
        middle=switches["position"] == "middle", seed=job.seed,
    )  # fmt: skip
    tower = image_tower(job.base, switches["encoder"])
    crops = switches["crops"] == "random"
    training = ContextTraining(tower, start, job.dataset.prompts, switches["strategy"], crops=crops)
    job.fit(training, job.samples(purpose=()))
    return job.finish(packed_tensors(training.learned.tensors, int8=False))
