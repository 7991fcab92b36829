"""HPT-GPD's training (Fu et al. 2026): two teachers, of which none is robust, and two phases.

x' = PGD of the target's cross-entropy (labels are used here alone). Then, with KL = `losses.taught`:
    anchored  KL(target before training, x || target, x')                 stays near CLIP
    pulled    KL(proxy, x' || target, x') + pull * KL(target before, x || target, x')
"""

from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.backbones import load_backbone
from vlm_gauntlet.fixtures.errors import unknown_name
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.training.adversary import worst_images
from vlm_gauntlet.training.job import TrainingJob
from vlm_gauntlet.training.recipe import Phase
from vlm_gauntlet.training.samples import Batch
from vlm_gauntlet.training.tower import TowerTraining, train_tower

from .losses import taught

PROXIES = {
    "open_clip:ViT-B-32-quickgelu/openai": "open_clip:ViT-B-16-quickgelu/openai",
    "miniclip-vit": "miniclip-cnn",
    "miniclip-cnn": "miniclip-vit",
}
PULL = {"equal": 1.0, "v1": 0.001}
PULLED = "pulled"  # name of the phase in which the proxy teaches


class HPTTraining(TowerTraining):
    """The whole image tower, on adversarial images alone.

    Args:
        base: the target, and the teacher on clean images.
        prompts: the classes.
        deviations: of the method, those that were chosen.
        proxy: the teacher on adversarial images; another plain CLIP.
    """

    terms = ("proxy", "anchor")

    def __init__(self, base: Backbone, prompts: PromptSet, deviations: Mapping[str, str], proxy: Backbone) -> None:
        super().__init__(base, prompts, deviations)
        self.proxy = proxy
        self.start = f"{base.digest}+{proxy.digest}"
        self.pull = PULL[deviations.get("pull", "equal")]

    def logits(self, model: Backbone, images: Tensor) -> Tensor:
        """[B, K]; raw cosines, or with CLIP's scale where the deviation says so."""
        logits = model(images, self.prompts)
        return logits if self.deviations.get("logits") == "scaled" else logits / model.logit_scale

    def loss(self, batch: Batch, phase: Phase) -> dict[str, Tensor]:
        """See Training."""
        images = batch["images"]

        def objective(attacked: Tensor) -> Tensor:
            return F.cross_entropy(self.logits(self.student, attacked), batch["labels"])

        found = worst_images(objective, images, batch.keys, phase.budget)
        answer = self.logits(self.student, found)
        with torch.no_grad():
            before = self.logits(self.base, images)
        anchor = taught(answer, before)
        if phase.name != PULLED:
            return {"anchor": anchor}
        with torch.no_grad():
            seen = self.logits(self.proxy, found)
        return {"proxy": taught(answer, seen), "anchor": self.pull * anchor}


def train(job: TrainingJob) -> Path:
    """Fine-tunes the image tower; returns the checkpoint's path."""
    if job.backbone not in PROXIES:
        raise unknown_name("backbone with a proxy", job.backbone, PROXIES, "methods/hpt_gpd/train.py")
    proxy = load_backbone(PROXIES[job.backbone], str(job.engine.device))
    return train_tower(job, lambda base, prompts, deviations: HPTTraining(base, prompts, deviations, proxy))
