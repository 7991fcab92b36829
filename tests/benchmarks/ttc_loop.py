"""A cell of TTC beside a straightforward loop written from the paper's formulas, as an evaluation script has it.

The loop takes one batch at a time, encodes the words of all classes anew for it, attacks the undefended model, and lets
TTC answer the clean and the attacked images. The cell does the same and more: its indicators ask some images again.
It is asked for one draw an image, as the loop takes; a cell's own five are no slower way to do the same.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from vlm_gauntlet.attacks.protocols import protocol
from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.backbones import load_backbone
from vlm_gauntlet.fixtures.datasets import Batch, dataset
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.fixtures.protocols import Protocol
from vlm_gauntlet.methods.registry import method
from vlm_gauntlet.suites.batch import Evaluation, run_batch

from .paired import Row, compared
from .peers import BACKBONE, SET

PROTOCOL = "pgd-10-transfer-linf-16-255"
EPS, STEPS = 16 / 255, 10
COUNTER, COUNTER_STEP, COUNTER_STEPS, THRESHOLD, BETA = 4 / 255, 1 / 255, 2, 0.2, 2.0


@dataclass(frozen=True)
class Loop:
    """The loop.

    Args:
        backbone: CLIP.
        prompts: the classes, one sentence each.
    """

    backbone: Backbone
    prompts: PromptSet

    def batch(self, batch: Batch) -> tuple[int, int]:
        """How many of a batch are right, clean and attacked."""
        with torch.no_grad():
            tokens = self.backbone.tokenize([group[0] for group in self.prompts.prompts])
            text = F.normalize(self.backbone.clip.encode_text(tokens), dim=-1)
        attacked = self.pgd(batch.images, batch.labels, text)
        right = [(self.ttc(images, text).argmax(1) == batch.labels).sum() for images in (batch.images, attacked)]
        return int(right[0]), int(right[1])

    def logits(self, images: Tensor, text: Tensor) -> Tensor:
        """Images [B, 3, H, W] -> [B, K]."""
        return self.backbone.logit_scale * F.normalize(self.backbone.encode_image(images), dim=-1) @ text.T

    def pgd(self, clean: Tensor, labels: Tensor, text: Tensor) -> Tensor:
        """PGD on the undefended model from a random start."""
        images = (clean + torch.empty_like(clean).uniform_(-EPS, EPS)).clamp(0, 1)
        for _ in range(STEPS):
            images.requires_grad_()
            (gradient,) = torch.autograd.grad(F.cross_entropy(self.logits(images, text), labels), images)
            images = images.detach() + EPS / 4 * gradient.sign()
            images = images.clamp(clean - EPS, clean + EPS).clamp(0, 1)
        return images

    def ttc(self, images: Tensor, text: Tensor) -> Tensor:
        """Logits of TTC: ascent on the drift of the feature, weighted iterates, images that drift enough left alone."""
        encode = self.backbone.encode_image
        with torch.no_grad():
            anchor = encode(images)
        delta = torch.empty_like(images).uniform_(-COUNTER, COUNTER)
        iterates = [(images + delta).clamp(0, 1) - images]
        for _ in range(COUNTER_STEPS):
            delta = iterates[-1].clone().requires_grad_()
            moved = encode(images + delta)
            if len(iterates) == 1:
                drift = (moved.detach() - anchor).norm(dim=1) / anchor.norm(dim=1)
            (gradient,) = torch.autograd.grad((moved - anchor).square().sum(), delta)
            delta = (delta.detach() + COUNTER_STEP * gradient.sign()).clamp(-COUNTER, COUNTER)
            iterates.append((images + delta).clamp(0, 1) - images)
        weights = torch.softmax(BETA * torch.arange(len(iterates)), 0)
        mixed = sum(w * d for w, d in zip(weights.tolist(), iterates, strict=True))
        counter = torch.where((drift < THRESHOLD)[:, None, None, None], mixed, iterates[0])
        with torch.no_grad():
            return self.logits((images + counter).clamp(0, 1), text)


def words(classes: int) -> PromptSet:
    """So many classes whose names are different tokens: the data set's own ten first, then pairs of words."""
    own = dataset(SET).class_names
    pairs = (f"{first} {second}" for first in _nouns() for second in _nouns() if first != second)
    names = [*own, *(pair for pair, _ in zip(pairs, range(classes - len(own)), strict=False))][:classes]
    return PromptSet.from_templates(names, ["a photo of a {c}."])


def _nouns() -> tuple[str, ...]:
    return (
        "apple", "bear", "bird", "boat", "book", "bread", "bus", "cake", "cat", "chair", "clock", "cow", "cup", "dog",
        "door", "fish", "flower", "fork", "horse", "house", "key", "lamp", "leaf", "lion", "moon", "mouse", "pen",
        "phone", "sheep", "spoon", "star", "table", "tree",
    )  # fmt: skip


def rows(classes: int, *, batches: int, batch: int, pairs: int) -> Iterator[Row]:
    """The cell's body against the loop, over so many batches."""
    backbone, data, prompts = load_backbone(BACKBONE), dataset(SET), words(classes)
    samples = list(data.batches(limit=batches * batch, batch_size=batch, size=backbone.image_size))
    ttc, undefended = method("ttc").build(backbone), method("undefended").build(backbone)
    loop = Loop(backbone, prompts)
    asked = Evaluation(ttc, undefended, prompts, one_draw(protocol(PROTOCOL)), seed=0)

    def cell() -> None:
        backbone._text_cache.clear()  # a new cell of a new process
        for part in samples:
            run_batch(asked, part)

    def theirs() -> None:
        for part in samples:
            loop.batch(part)

    yield compared(
        "cell", f"TTC, {classes} classes, {batches} batches of {batch}", "loop", cell, theirs, pairs,
        target="at most 0.2" if classes >= 1000 else "at most 1",
    )  # fmt: skip


def one_draw(asked: Protocol) -> Protocol:
    """The protocol with one scoring draw."""
    return asked.model_copy(update={"evaluation": asked.evaluation.model_copy(update={"scoring_draws": 1})})


def batched(count: int, pairs: int) -> Row:
    """R-TPT's answers to a batch, against one image at a time."""
    backbone, data = load_backbone(BACKBONE), dataset(SET)
    (batch,) = data.batches(limit=count, batch_size=count, size=backbone.image_size)
    defence, prompts = method("r_tpt").build(backbone), data.prompted("dataset")

    def together(images: Tensor) -> None:
        with torch.no_grad():
            defence(images, prompts)

    def alone() -> None:
        for image in batch.images:
            together(image[None])

    return compared(
        "batched", f"R-TPT, {count} images", "one at a time", partial(together, batch.images), alone, pairs
    )  # fmt: skip
