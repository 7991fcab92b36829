"""Trains miniclip-vit with CLIP's symmetric contrastive loss; a killed run resumes."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path

import torch
from open_clip import CLIP
from torch import Tensor

from vlm_gauntlet.fixtures.draws import key_of
from vlm_gauntlet.training.miniclip import model as architecture
from vlm_gauntlet.training.miniclip.augment import random_views
from vlm_gauntlet.training.miniclip.captions import caption, say
from vlm_gauntlet.training.miniclip.corpus import Corpus, read_corpus
from vlm_gauntlet.training.miniclip.export import class_name
from vlm_gauntlet.training.miniclip.losses import to_captions, to_pictures
from vlm_gauntlet.training.miniclip.tokens import minilm_rows
from vlm_gauntlet.training.recipe import Phase, read_recipe
from vlm_gauntlet.training.samples import Batch, Samples
from vlm_gauntlet.training.state import digest_of
from vlm_gauntlet.training.trainer import Training, fit

RECIPE = Path(__file__).parent / "recipe.toml"
SHARES = {"garment": 0.25, "digit": 0.10}  # of each batch; emoji fill the rest
GROUP_STEPS = 0.35  # share of steps whose captions name the class ("bird") and not the concept ("owl")
MAX_LOGIT_SCALE = math.log(100)


def train_miniclip(
    out: Path, sources: Path, *, steps: int | None = None, seed: int = 0, threads: int | None = None,
    progress: bool = True,
) -> CLIP:  # fmt: skip
    """Trains on the fetched `sources`, writes the packed model into `out` and returns it (unpacked, evaluation mode).

    A training state in `out` is resumed, and removed once the run is complete.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    model = architecture.build(seed)
    with torch.no_grad():
        model.token_embedding.weight.copy_(minilm_rows(sources, model.token_embedding.embedding_dim, seed))
    training, recipe = MiniCLIPTraining(model), read_recipe(RECIPE).lasting(steps=steps)
    fit(training, recipe, Views(read_corpus(sources, seed), seed), out / "weights.safetensors", progress=progress)
    architecture.save_packed(model, out)
    (out / "weights.resume.safetensors").unlink(missing_ok=True)
    return architecture.load_packed(out)


class MiniCLIPTraining(Training):
    """All of a CLIP model; its logit scale stays in 1..100.

    Args:
        model: trained in place.
    """

    terms = ("to_captions", "to_pictures")
    couples_batch = True

    def __init__(self, model: CLIP) -> None:
        self.model = model
        self.start = digest_of(model.state_dict())

    @property
    def weights(self) -> Mapping[str, Tensor]:
        """See Training."""
        return dict(self.model.named_parameters())

    def groups(self, phase: str) -> Mapping[str, list[str]]:
        """Decayed matrices, plain vectors, and the token table."""
        table, undecayed = "token_embedding.weight", ("logit_scale", "positional_embedding")
        found: dict[str, list[str]] = {"decayed": [], "plain": [], "table": [table]}
        for name, tensor in self.weights.items():
            if name != table:
                plain = tensor.ndim < 2 or name.rpartition(".")[2] in undecayed
                found["plain" if plain else "decayed"].append(name)
        return found

    def loss(self, batch: Batch, phase: Phase) -> dict[str, Tensor]:
        """Symmetric InfoNCE; a caption's positives are all the pictures that it is the caption of."""
        images = self.model.encode_image(architecture.normalise(batch["views"]), normalize=True)
        captions = self.model.encode_text(batch["tokens"], normalize=True)
        logits = self.model.logit_scale.exp() * images @ captions.T
        return {"to_captions": to_captions(logits, batch["index"]), "to_pictures": to_pictures(logits, batch["index"])}

    def after_step(self, phase: Phase) -> None:
        """See Training."""
        with torch.no_grad():
            self.model.logit_scale.clamp_(0, MAX_LOGIT_SCALE)


class Views(Samples):
    """Step -> random views and captions of the training pictures, the same ones every time."""

    def __init__(self, corpus: Corpus, seed: int) -> None:
        self.seed = seed
        self.concepts = corpus.concepts
        rows = corpus.of_role("train")
        self.pictures = torch.from_numpy(corpus.pictures[rows])
        self.ids = torch.from_numpy(corpus.concept_ids[rows])
        self.mirrors = torch.tensor([self.concepts[i].mirrors for i in self.ids])
        self.weights = self._weights()
        self.digest = digest_of({"pictures": self.pictures, "concepts": self.ids})

    def __len__(self) -> int:
        return len(self.pictures)

    def batches(self, size: int, first: int) -> Iterator[Batch]:
        """Views [n, 3, 32, 32], tokens of the distinct captions, and the caption's index of each view [n]."""
        for step in count(first):
            views, texts, index = self.draw(step, size)
            keys = tuple(key_of(self.seed, step, i) for i in range(size))
            yield Batch({"views": views, "tokens": architecture.tokenize(texts), "index": index}, keys)

    def _weights(self) -> Tensor:
        """Concepts count, not their pictures (a person has 18); large groups are damped by a square root."""
        drawings = Counter(self.ids.tolist())
        groups = Counter(self.concepts[i].group for i in drawings)
        pools = [self.concepts[i].group if self.concepts[i].group in SHARES else "emoji" for i in self.ids]
        weights = torch.tensor([1 / drawings[i] / groups[self.concepts[i].group] ** 0.5 for i in self.ids.tolist()])
        for pool, share in {**SHARES, "emoji": 1 - sum(SHARES.values())}.items():
            inside = torch.tensor([name == pool for name in pools])
            weights[inside] *= share / weights[inside].sum()
        return weights

    def draw(self, step: int, size: int) -> tuple[Tensor, list[str], Tensor]:
        """The batch of a step, its captions as text.

        One caption a concept and batch: two pictures of one thing share it, so that they are never each
        other's negatives, however often Fashion-MNIST repeats a class.
        """
        number = self.seed * 1_000_003 + step
        generator, rng = torch.Generator().manual_seed(number), random.Random(number)
        rows = torch.multinomial(self.weights, size, replacement=True, generator=generator)
        by_group = rng.random() < GROUP_STEPS
        drawn = [self.concepts[i] for i in self.ids[rows]]
        keys = [class_name(concept) if by_group else concept.name for concept in drawn]
        chosen: dict[str, str] = {}
        for key, concept in zip(keys, drawn, strict=True):
            if key not in chosen:
                chosen[key] = say(key, rng) if by_group else caption(concept, rng)
        texts = list(dict.fromkeys(chosen.values()))
        index = torch.tensor([texts.index(chosen[key]) for key in keys])
        return random_views(self.pictures[rows], self.mirrors[rows], generator), texts, index
