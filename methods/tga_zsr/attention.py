"""Text-guided attention (Yu et al. 2024, section 3.1, equation 5): where an image's patches agree with a text."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.visual_prompts import image_transformer

SIDE = 224  # of a map, in pixels, whatever the backbone's input: the losses' weights are stated for this many
FLAT = 1e-6  # a smaller range of scores, which lie in -1..1, is what rounding leaves
NormAxis = Literal["embedding", "tokens"]
MinMax = Literal["after-resize", "before-resize"]


def encode_with_tokens(backbone: Backbone, images: Tensor) -> tuple[Tensor, Tensor]:
    """Features [B, D] and all output tokens [B, 1 + P, D] of one pass: the whole image, then its places.

    A transformer's tokens go through the last norm and the projection, as the class token does to become the features.
    A convolutional tower has none, and the paper names none: here they are the places of its last map, each through the
    projection. Their mean is the features, since pooling and projection are linear, and stands for the class token.

    Raises:
        UnavailableError: an image tower with neither.
    """
    tower = backbone.clip.visual
    pool = getattr(getattr(tower, "trunk", None), "global_pool", None)
    kept: list[Tensor] = []
    projects = isinstance(getattr(getattr(tower, "head", None), "proj", None), nn.Linear)
    averages = projects and isinstance(pool, nn.Module) and getattr(pool, "pool_type", None) == "avg"
    if averages:
        handle = tower.trunk.global_pool.register_forward_pre_hook(lambda module, inputs: kept.append(inputs[0]))
    else:
        handle = image_transformer(backbone).register_forward_hook(lambda module, inputs, tokens: kept.append(tokens))
    try:
        features = backbone.encode_image(images)
    finally:
        handle.remove()
    if averages:
        places: Tensor = tower.head(kept[0].flatten(2).transpose(1, 2))
        return features, torch.cat([features[:, None], places], dim=1)
    tokens: Tensor = tower.ln_post(kept[0]) @ tower.proj
    return features, tokens


def attention_map(
    tokens: Tensor,
    texts: Tensor,
    *,
    norm_axis: NormAxis = "embedding",
    minmax: MinMax = "after-resize",
    side: int = SIDE,
) -> Tensor:
    """Maps [B, side * side] in [0,1]: scores of the patches, resized bilinearly; each map from 0 to 1, or 0 if flat.

    Args:
        tokens: [B, 1 + P, D], the class token first, P a square.
        texts: unit features [B, D], one for each image: of its true class.
        norm_axis: each token is of unit length (paper), or each channel over all tokens of an image (code).
        minmax: whether a map gets its range 0 to 1 after it was resized (paper) or before (code).
        side: of the map.
    """
    scores = torch.einsum("bpd,bd->bp", F.normalize(tokens, dim=2 if norm_axis == "embedding" else 1)[:, 1:], texts)
    grid = scores.view(len(scores), 1, *[math.isqrt(scores.shape[1])] * 2)
    if minmax == "before-resize":
        grid = _from_0_to_1(grid)
    resized = F.interpolate(grid, size=(side, side), mode="bilinear", align_corners=False)
    return (resized if minmax == "before-resize" else _from_0_to_1(resized)).flatten(1)


def _from_0_to_1(maps: Tensor) -> Tensor:
    """Maps [B, 1, S, S] shifted and scaled; 0 where the range is rounding alone, by which the code would divide."""
    low, high = maps.amin((2, 3), keepdim=True), maps.amax((2, 3), keepdim=True)
    has_range = high - low > FLAT
    return has_range * (maps - low) / torch.where(has_range, high - low, torch.ones_like(low))


@dataclass(frozen=True)
class Shift:
    """How far the attention of each image moved under attack: 1 - cosine and Euclidean distance of the maps, [B]."""

    cosine: Tensor
    l2: Tensor


def attention_shift(backbone: Backbone, clean: Tensor, adversarial: Tensor, texts: Tensor) -> Shift:
    """The shift of a model's attention from clean to adversarial images (the paper's Figure 1), in maps of 224.

    Args:
        backbone: whose tower looks: the undefended one, or a defence's `tuned_backbone`.
        clean, adversarial: images [B, 3, H, W] in [0,1].
        texts: unit features [B, D] of the true classes: `backbone.text_features(prompts)[labels]`.
    """
    with torch.no_grad():
        before, after = (
            attention_map(encode_with_tokens(backbone, x)[1], texts).double() for x in (clean, adversarial)
        )
    return Shift(1 - F.cosine_similarity(before, after), torch.linalg.vector_norm(before - after, dim=1))
