"""MMCoA's training (Zhou et al. 2024, section IV): L = gamma_1 L(I', T) + gamma_2 L(I, T'), both towers.

I' are images after PGD, T' sentences after an attack on text that reads the text tower as it stands at this step.
"""

from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from vlm_gauntlet.attacks.text.prompts import attack_sentences
from vlm_gauntlet.attacks.text.rules import WordSwap
from vlm_gauntlet.attacks.text.sources.registry import build_source
from vlm_gauntlet.training.adversary import worst_images
from vlm_gauntlet.training.job import TrainingJob
from vlm_gauntlet.training.recipe import Phase
from vlm_gauntlet.training.samples import Batch
from vlm_gauntlet.training.tower import BothTowersTraining, train_tower

from .losses import contrastive

GAMMA = 0.5  # equation 9: gamma_1 = gamma_2


class MMCoATraining(BothTowersTraining):
    """The whole model, on pairs of an image and the sentence of its class, of which one is attacked."""

    terms = ("image", "text")
    couples_batch = True

    def loss(self, batch: Batch, phase: Phase) -> dict[str, Tensor]:
        """See Training."""
        images, labels = batch["images"], batch["labels"]
        present, row = torch.unique(labels, return_inverse=True)  # a sentence that stands twice is read once
        sentences = [self.sentences[i] for i in present.tolist()]
        used = self.deviations.get("terms", "both")
        terms: dict[str, Tensor] = {}
        if used != "text":
            found = self._worst_images(batch, phase, sentences, row)
            terms["image"] = GAMMA * self._pairs(found, self.texts(sentences)[row])
        if used != "image":
            attacked = self._worst_sentences(sentences, phase.text_rules)
            terms["text"] = GAMMA * self._pairs(images, self.texts(attacked)[row])
        return terms

    @property
    def sentences(self) -> list[str]:
        """One for each class: the paper has no others."""
        return [group[0] for group in self.prompts.prompts]

    def _pairs(self, images: Tensor, texts: Tensor) -> Tensor:
        features, both = F.normalize(self.student.encode_image(images), dim=-1), self._is("direction", "symmetric")
        return contrastive(features, texts, self.student.logit_scale, symmetric=both)

    def _worst_images(self, batch: Batch, phase: Phase, sentences: list[str], row: Tensor) -> Tensor:
        """I': PGD on L(I, T) (equation 3); with `inner_loss=class-texts` on TeCoA's cross-entropy over all classes.

        With `attack_gradients=accumulated` each of its steps adds to the gradients of both towers, as the code does.
        """
        leaks, over_classes = self._is("attack_gradients", "accumulated"), self._is("inner_loss", "class-texts")

        def read() -> Tensor:
            return self.texts(self.sentences if over_classes else sentences)

        with torch.no_grad():
            known = read()
        texts: Callable[[], Tensor] = read if leaks else lambda: known

        def objective(images: Tensor) -> Tensor:
            if not over_classes:
                return self._pairs(images, texts()[row])
            features = F.normalize(self.student.encode_image(images), dim=-1)
            return F.cross_entropy(self.student.logit_scale * features @ texts().T, batch["labels"])

        return worst_images(
            objective, batch["images"], batch.keys, phase.budget, accumulate=batch.share if leaks else None
        )

    def _worst_sentences(self, sentences: list[str], rules: WordSwap) -> list[str]:
        """T' (equation 4): the words that move the features of a sentence most, on the text tower as it stands."""
        found = attack_sentences(sentences, self.student, self.prompts, rules, build_source(rules))
        return [sentence.after for sentence in found]

    def _is(self, switch: str, choice: str) -> bool:
        return self.deviations.get(switch) == choice


def train(job: TrainingJob) -> Path:
    """Fine-tunes both towers; returns the checkpoint's path."""
    return train_tower(job, MMCoATraining)
