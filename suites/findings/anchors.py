"""What LAAT and TIMA say of class texts: how alike they are, what margins do, what moving them breaks."""

from dataclasses import replace

import torch
import torch.nn.functional as F

from vlm_gauntlet.methods.laat.anchors import Expansion
from vlm_gauntlet.methods.laat.topology import pair_similarities
from vlm_gauntlet.methods.tima.observations import logit_margins, pair_margins

from .finding import Figure, Finding, mean, rank_correlation, share
from .scene import Scene

SMALLER = 4  # the small attack has eps / 4
CHANGED = 0.05  # share of predictions that may turn before a meaning counts as broken


def spread_by_expansion(scene: Scene) -> Figure:
    """Cosine of each pair of class texts before expansion minus after it, a mean over pairs."""
    texts = scene.backbone.text_features(scene.prompts)
    return mean((pair_similarities(texts) - pair_similarities(Expansion.fit(texts)(texts))).tolist())


def stable_offset(scene: Scene) -> Figure:
    """Rank correlation over samples of the logit margins under a small and a large attack."""
    small = Scene(replace(scene.place, eps=scene.place.eps / SMALLER), scene.limit)
    margins = (
        logit_margins(scene.backbone.classify(scene.features(images), scene.prompts), scene.labels)
        for images in (small.attacked, scene.attacked)
    )
    return rank_correlation(*(found.tolist() for found in margins))


def margin_by_similarity(scene: Scene) -> Figure:
    """Rank correlation over pairs of classes of the margin on attacked images and the similarity of the texts."""
    texts = scene.backbone.text_features(scene.prompts)
    margins = pair_margins(scene.backbone.classify(scene.features(scene.attacked), scene.prompts), scene.labels)
    counted = ~torch.eye(len(texts), dtype=torch.bool) & margins.isfinite()
    return rank_correlation(margins[counted].tolist(), (texts @ texts.T)[counted].tolist())


def turned_by_expansion(scene: Scene) -> Figure:
    """Share of clean images whose class is another one after the texts were expanded."""
    texts = scene.backbone.text_features(scene.prompts)
    features = F.normalize(scene.features(scene.images), dim=-1)
    before, after = ((features @ t.T).argmax(1) for t in (texts, Expansion.fit(texts)(texts)))
    return share((before != after).tolist())


FINDINGS = (
    Finding(
        "anchors-alike", "CLIP's class texts are too alike to be anchors, and expansion spreads them",
        "LAAT (Li et al., CVPR 2024), section 3", "cosine of pairs of class texts before expansion minus after it",
        0.0, True, spread_by_expansion,
    ),
    Finding(
        "stable-offset", "Logit margins under a small and a large attack differ by a stable offset",
        "TIMA (Ma et al., AAAI 2026), first observation",
        f"rank correlation over samples of the margins under eps / {SMALLER} and eps", 0.5, True, stable_offset,
    ),
    Finding(
        "margin-similarity", "Margins are smaller between classes whose texts are more similar",
        "TIMA (Ma et al., AAAI 2026), second observation",
        "rank correlation over pairs of classes of margin under attack and similarity", 0.0, False,
        margin_by_similarity,
    ),
    Finding(
        "expansion-breaks", "Expanding the texts breaks their meaning",
        "TIMA (Ma et al., AAAI 2026), third observation", "share of clean images whose class turns", CHANGED, True,
        turned_by_expansion,
    ),
)  # fmt: skip
