"""ΔCLIP's training (Wang et al. 2025): CLIP's contrastive loss from scratch, each step on the worst images around.

max over the images alone, |delta| <= eps, of L(I + delta, T); then a step of all parameters on what was found.
"""

from pathlib import Path

import torch
from torch import Tensor

from vlm_gauntlet.fixtures.errors import GauntletError
from vlm_gauntlet.training.adversary import worst_images
from vlm_gauntlet.training.checkpoint import packed_difference
from vlm_gauntlet.training.job import TrainingJob
from vlm_gauntlet.training.miniclip import model as architecture
from vlm_gauntlet.training.miniclip.corpus import read_corpus
from vlm_gauntlet.training.miniclip.losses import to_captions, to_pictures
from vlm_gauntlet.training.miniclip.train import MiniCLIPTraining, Views
from vlm_gauntlet.training.recipe import Phase
from vlm_gauntlet.training.samples import Batch

TABLE = "token_embedding.weight"


class DeltaTraining(MiniCLIPTraining):
    """All of a CLIP model but its token table, which stays as it came; there is no clean term."""

    @property
    def weights(self) -> dict[str, Tensor]:
        """See Training."""
        return {name: tensor for name, tensor in self.model.named_parameters() if name != TABLE}

    def groups(self, phase: str) -> dict[str, list[str]]:
        """Decayed matrices and plain vectors."""
        return {name: members for name, members in super().groups(phase).items() if name != "table"}

    def loss(self, batch: Batch, phase: Phase) -> dict[str, Tensor]:
        """Symmetric InfoNCE on the images that maximise it; the captions are those of the clean images."""
        captions = self.model.encode_text(batch["tokens"], normalize=True)

        def terms(images: Tensor, captions: Tensor, scale: Tensor) -> dict[str, Tensor]:
            features = self.model.encode_image(architecture.normalise(images), normalize=True)
            logits = scale * features @ captions.T
            index = batch["index"]
            return {"to_captions": to_captions(logits, index), "to_pictures": to_pictures(logits, index)}

        still, scale = captions.detach(), self.model.logit_scale.exp()
        found = worst_images(
            lambda images: sum(terms(images, still, scale.detach()).values(), images.new_zeros(())),
            batch["views"], batch.keys, phase.budget,
        )  # fmt: skip
        return terms(found, captions, scale)


def from_scratch(job: TrainingJob) -> DeltaTraining:
    """Seeded weights in the architecture of miniclip-vit, with the token table of its embedded weights.

    Raises:
        GauntletError: another backbone, whose pictures and captions are not here.
    """
    if job.backbone != "miniclip-vit":
        raise GauntletError(
            f"a pre-training of {job.backbone!r}", expected="--backbone miniclip-vit, whose pictures and captions are "
            "public packages", where="gauntlet train delta_clip", fix="take the released weights for a real CLIP",
        )  # fmt: skip
    model = architecture.build(job.seed).to(job.engine.device)
    with torch.no_grad():
        model.token_embedding.weight.copy_(job.base.clip.token_embedding.weight)
    model.token_embedding.requires_grad_(False)
    return DeltaTraining(model)


def train(job: TrainingJob) -> Path:
    """Pre-trains on the packages in `--data` (what `gauntlet train-miniclip --sources` fetched); returns the path."""
    training = from_scratch(job)
    job.fit(training, Views(read_corpus(job.data, job.seed), job.seed))
    zero = {name: torch.zeros_like(tensor) for name, tensor in training.weights.items()}
    return job.finish(packed_difference(zero, training.weights, levels=job.recipe.levels))
