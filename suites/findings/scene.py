"""Samples of one embedded backbone, clean and attacked on the undefended model: what findings are measured on."""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import torch
from torch import Tensor

from vlm_gauntlet.attacks.pgd import PGD
from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.backbones import load_backbone
from vlm_gauntlet.fixtures.datasets import dataset
from vlm_gauntlet.fixtures.draws import Draws, key_of
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.methods.registry import method
from vlm_gauntlet.methods.victims import BoundDefence

BATCH = 32
STEPS = 10  # of PGD


@dataclass(frozen=True)
class Place:
    """Where a finding is measured; eps is where the backbone breaks."""

    backbone: str
    dataset: str
    eps: Fraction


PLACES = (
    Place("miniclip-vit", "fashion_mnist", Fraction(16, 255)),
    Place("miniclip-cnn", "pacs_photo", Fraction(1, 255)),
)


@dataclass(frozen=True)
class Scene:
    """The first samples of a place.

    Args:
        place: backbone, data set and eps.
        limit: number of samples.
    """

    place: Place
    limit: int

    @property
    def eps(self) -> float:
        """Radius of the attack in [0,1]."""
        return float(self.place.eps)

    @cached_property
    def backbone(self) -> Backbone:
        """The undefended model."""
        return load_backbone(self.place.backbone, "cpu")

    @cached_property
    def prompts(self) -> PromptSet:
        """The classes."""
        return dataset(self.place.dataset).prompts

    @cached_property
    def _samples(self) -> tuple[Tensor, Tensor, tuple[int, ...]]:
        found = list(
            dataset(self.place.dataset).batches(limit=self.limit, batch_size=BATCH, size=self.backbone.image_size)
        )
        keys = tuple(key_of("finding", i) for batch in found for i in batch.ids)
        return torch.cat([b.images for b in found]), torch.cat([b.labels for b in found]), keys

    @property
    def images(self) -> Tensor:
        """Clean images [N, 3, S, S]."""
        return self._samples[0]

    @property
    def labels(self) -> Tensor:
        """Classes [N]."""
        return self._samples[1]

    @property
    def keys(self) -> tuple[int, ...]:
        """One random key a sample."""
        return self._samples[2]

    @cached_property
    def attacked(self) -> Tensor:
        """PGD-10 on the undefended model [N, 3, S, S]."""
        return self.attacked_on(self.backbone)

    def attacked_on(self, backbone: Backbone) -> Tensor:
        """PGD-10 on another model of the same classes [N, 3, S, S]."""
        victim = method("undefended").build(backbone)
        attack = PGD("linf", self.eps, steps=STEPS)
        parts = [
            attack(
                BoundDefence(victim, self.prompts, self.keys[at : at + BATCH]), self.images[at : at + BATCH],
                self.labels[at : at + BATCH], self.keys[at : at + BATCH],
            ).images
            for at in range(0, len(self.labels), BATCH)
        ]  # fmt: skip
        return torch.cat(parts)

    def draws(self, call: int = 0) -> Draws:
        """Random streams of the samples, fresh in each call."""
        return Draws(self.keys, call)

    def features(self, images: Tensor, encode: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """Features [N, D] of images under the undefended model, or another encoder; no gradient."""
        with torch.no_grad():
            return torch.cat([(encode or self.backbone.encode_image)(part) for part in torch.split(images, BATCH)])

    def right(self, images: Tensor, prompts: PromptSet | None = None) -> Tensor:
        """Whether each image [N, 3, S, S] is classified right by the undefended model [N]."""
        logits = self.backbone.classify(self.features(images), prompts or self.prompts)
        return logits.argmax(1) == self.labels
