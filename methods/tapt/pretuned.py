"""What TAPT starts from: prompts tuned in advance on adversarial pictures, and statistics of clean ones under them."""

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, fields
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.learned_prompts import prompted_text_features, word_vectors
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.fixtures.visual_prompts import (
    TokenStatistics,
    deep_text_prompts,
    depth_and_width,
    image_transformer,
    text_transformer,
    visual_prompts,
)
from vlm_gauntlet.training.checkpoint import load_checkpoint

from ..prompt_tuning import view_logits

TOKENS = 2  # visual and textual tokens in a layer
SHARE_OF_LAYERS = 3 / 4  # 9 of the 12 layers of the paper's towers
SPREAD = 0.02  # standard deviation of the initial tokens


@dataclass(frozen=True)
class DeepPrompts:
    """Learned tokens of both towers, one set for each of B samples.

    Args:
        visual: [B, depth, M, W]; None where they are projections of the textual ones.
        context: [B, M, W'] for the first M words of "a photo of a"; None where only the image tower is prompted.
        deep: [B, depth' - 1, M, W'] for the same places in the text tower's later layers; None where it has one layer.
        weight, bias: [B, depth, W, W'] and [B, depth, W] of the projections (VLJ), one for each layer of the image
            tower; then `deep` is as deep as they are, and a shallower text tower reads its first layers.
        normed: whether the first layer's visual tokens pass the tower's layer norm before it.
    """

    visual: Tensor | None = None
    context: Tensor | None = None
    deep: Tensor | None = None
    weight: Tensor | None = None
    bias: Tensor | None = None
    normed: bool = True

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Those that there are, by name."""
        named = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: tensor for name, tensor in named.items() if isinstance(tensor, Tensor)}

    @property
    def visual_tokens(self) -> Tensor:
        """What enters the image tower [B, depth, M, W]: learned, or projected from what enters the text tower."""
        if self.visual is not None:
            return self.visual
        assert self.context is not None and self.weight is not None and self.bias is not None
        first = self.context[:, None]
        learned = first if self.deep is None else torch.cat([first, self.deep], dim=1)
        return learned @ self.weight.mT + self.bias[:, :, None]

    def repeated(self, count: int) -> "DeepPrompts":
        """The same prompts for `count` samples, detached from any graph, and ready to be differentiated."""
        own = {n: t.detach().repeat(count, *[1] * (t.dim() - 1)).requires_grad_() for n, t in self.tensors.items()}
        return self.of(own)

    def of(self, tensors: Mapping[str, Tensor]) -> "DeepPrompts":
        """Other tokens, by name, that enter as these do."""
        return DeepPrompts(**tensors, normed=self.normed)

    def class_weights(self, backbone: Backbone, prompts: PromptSet) -> Tensor:
        """Unit class weights [B, K, D], or [1, K, D] of the prompts' own sentences where no text is learned."""
        if self.context is None:
            return backbone.text_features(prompts)[None]
        with nullcontext() if self.deep is None else deep_text_prompts(backbone, self.deep):
            return prompted_text_features(backbone, prompts, self.context)

    def logits(
        self, backbone: Backbone, images: Tensor, prompts: PromptSet, record: list[Tensor] | None = None
    ) -> Tensor:
        """Images [B, n, 3, H, W], n of each sample -> logits [B, n, K]; `record` as in `visual_prompts`."""
        with visual_prompts(backbone, self.visual_tokens, record, normed=self.normed):
            features = F.normalize(backbone.encode_image(images.flatten(0, 1)).float(), dim=-1)
        weights = self.class_weights(backbone, prompts)
        return view_logits(backbone, features.view(*images.shape[:2], -1), weights)


def untrained(backbone: Backbone, variant: str, seed: int = 0, *, normed: bool = True) -> DeepPrompts:
    """N(0, 0.02) tokens, and the words themselves for the first layer's text; `normed` as in DeepPrompts.

    Projections start as torch's linear layers do: U(-1 / sqrt(W'), 1 / sqrt(W')).
    """
    generator = torch.Generator().manual_seed(seed)

    def tokens(layers: int, width: int) -> Tensor:
        return SPREAD * torch.randn(1, layers, TOKENS, width, generator=generator).to(backbone.device)

    def linear(*shape: int, inputs: int) -> Tensor:
        made: Tensor = (2 * torch.rand(1, *shape, generator=generator) - 1) / inputs**0.5
        return made.to(backbone.device)

    def prompted(layers: int) -> int:
        return int(layers * SHARE_OF_LAYERS + 0.5)

    layers, width = depth_and_width(image_transformer(backbone))
    depth = prompted(layers)
    if variant == "V":
        return DeepPrompts(tokens(depth, width), normed=normed)
    layers, inputs = depth_and_width(text_transformer(backbone))
    context = word_vectors(backbone)[None, :TOKENS].clone()
    if variant == "VLJ":
        deep = tokens(depth - 1, inputs) if depth > 1 else None
        weight, bias = linear(depth, width, inputs, inputs=inputs), linear(depth, width, inputs=inputs)
        return DeepPrompts(context=context, deep=deep, weight=weight, bias=bias, normed=normed)
    visual = tokens(depth, width)
    deep = tokens(prompted(layers) - 1, inputs) if prompted(layers) > 1 else None
    return DeepPrompts(visual, context, deep, normed=normed)


@dataclass(frozen=True)
class Pretuned:
    """Prompts tuned in advance [B = 1], and the statistics of clean pictures under robust and under clean prompts."""

    prompts: DeepPrompts
    robust: TokenStatistics
    clean: TokenStatistics

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Flat, as a checkpoint holds them."""
        named = {f"prompts.{n}": t for n, t in self.prompts.tensors.items()}
        for kind, statistics in (("robust", self.robust), ("clean", self.clean)):
            named |= {f"{kind}.mean": statistics.mean, f"{kind}.variance": statistics.variance}
        return named

    @classmethod
    def load(cls, backbone: Backbone, variant: str, *, normed: bool = True) -> "Pretuned":
        """Reads `<backbone>+first_tokens=bypass+variant=<variant>.safetensors` (defaults are not named).

        Raises:
            UnavailableError: none for this backbone; says how to train one.
        """
        suffix = "+first_tokens=bypass" * (not normed) + f"+variant={variant}" * (variant != "V")
        train_with = f"gauntlet train tapt{suffix} --backbone {backbone.name} --data DIR"
        tensors = load_checkpoint(Path(__file__).parent, backbone.name + suffix, backbone, train_with=train_with)
        tensors = {name: tensor.to(backbone.device) for name, tensor in tensors.items()}
        prompts = {n.removeprefix("prompts."): t for n, t in tensors.items() if n.startswith("prompts.")}
        robust, clean = (
            TokenStatistics(tensors[f"{kind}.mean"], tensors[f"{kind}.variance"]) for kind in ("robust", "clean")
        )
        return cls(DeepPrompts(**prompts, normed=normed), robust, clean)
