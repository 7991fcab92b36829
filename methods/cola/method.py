"""COLA (Zhu, Zhu, Wang, Zhao, Zhang, NeurIPS 2025, arXiv 2510.24038): align image views with class descriptions.

Views of the image are projected onto the span of the text; a class is as near as its descriptions are by transport.
There is no public code: what the paper leaves open is taken from AWT (NeurIPS 2024) and marked `assumed` in the card.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.prompts import PromptSet

from ..base import Defence
from .bank_file import describe
from .sinkhorn import transport_plan
from .text_bank import TextBank, text_bank
from .views import random_crops

TUNED_CROP = 0.75
AVERAGED = {"projection": "off", "transport": "mean", "weights": "uniform"}
ARMS = {
    "full": {},
    "views": AVERAGED,
    "bank": {**AVERAGED, "first_view": "image"},
}  # switches; one named beside goes first


class COLA(Defence):
    """argmin_y OT_y between N views and the descriptions of class y, at cost 1 - cos(Pi x_n, z_y^m).

    Args:
        descriptions: file with the sentences of each class; default: the one in `descriptions/` that knows the classes.
        views: N; the arm `bank` has one.
        directions: C, singular vectors of the text bank that span the subspace; at most the rank of the bank.
        eps: entropic regularisation of the transport.
        iterations, tolerance: Sinkhorn stops after so many rounds, or when the rows miss their marginal by less.
        temperature: of the weights softmax(-H / temperature).

    `directions`, `eps` and `temperature` default to the switches of these names.
    """

    def __init__(
        self,
        backbone: Backbone,
        deviations: Mapping[str, str] | None = None,
        *,
        descriptions: Path | None = None,
        views: int = 5,
        directions: int | None = None,
        eps: float | None = None,
        iterations: int = 100,
        tolerance: float = 1e-2,
        temperature: float | None = None,
    ) -> None:
        chosen = deviations or {}
        super().__init__(backbone, {**ARMS.get(chosen.get("arm", "full"), {}), **chosen})
        self.descriptions, self.views = descriptions, 1 if self.deviations["arm"] == "bank" else views
        self.iterations, self.tolerance = iterations, tolerance
        crop = self.deviations["smallest_crop"]
        self.smallest_crop = TUNED_CROP if crop == "tuned" else float(crop)
        self.directions = int(self.deviations["directions"]) if directions is None else directions
        self.eps = float(self.deviations["eps"]) if eps is None else eps
        self.temperature = float(self.deviations["temperature"]) if temperature is None else temperature

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        """See Defence. Differentiable throughout: also the plan, round by round, and the weights."""
        similarity, rows, columns = self.problems(images, prompts)
        return self._pooled(similarity, self.plan(1 - similarity, rows, columns))

    def surrogate(self, images: Tensor, prompts: PromptSet) -> Tensor:
        """The coupling is a constant to the gradient, the rounds are not retraced; the weights of the views stay.

        By the envelope theorem a constant plan gives the gradient of the converged entropic cost. Held constant as a
        whole it would hide the weights, through which most of the gradient flows: so the mass of each view moves it.
        """
        similarity, rows, columns = self.problems(images, prompts)
        with torch.no_grad():
            plan = self.plan(1 - similarity, rows, columns)
        return self._pooled(similarity, plan * (rows / rows.detach())[..., None])

    def unrolled(self, images: Tensor, prompts: PromptSet) -> Tensor:
        """Also through Sinkhorn's rounds."""
        return self.forward(images, prompts)

    def relaxed(self, images: Tensor, prompts: PromptSet) -> Tensor:
        """An ensemble of the views: each meets all descriptions of a class alike, without transport."""
        similarity, rows, columns = self.problems(images, prompts)
        return self._pooled(similarity, rows[..., :, None] * columns[..., None, :])

    def problems(self, images: Tensor, prompts: PromptSet) -> tuple[Tensor, Tensor, Tensor]:
        """One transport problem for each image and class: similarities [B, K, N, M], marginals [B, K, N], [B, K, M]."""
        bank = self.bank(prompts)
        views = self.crop(images)
        features = F.normalize(self.backbone.encode_image(views.flatten(0, 1)), dim=-1)
        if self.deviations["projection"] == "on":
            basis = bank.directions[: self.directions]
            features = F.normalize(features @ basis.T @ basis, dim=-1)  # Pi(v) = U U^T v
        features = features.view(*views.shape[:2], -1)
        similarity = torch.einsum("bnd,kmd->bknm", features, bank.features)
        rows = self.weights(features, bank)[:, None, :].expand(similarity.shape[:-1])
        columns = self.weights(bank.features, bank).masked_fill(~bank.present, 0)
        columns = (columns / columns.sum(-1, keepdim=True)).expand(len(images), -1, -1)
        return similarity, rows, columns

    def bank(self, prompts: PromptSet) -> TextBank:
        """The sentences that stand for each class: its descriptions, its prompts, or both."""
        choice = self.deviations["bank"]
        if choice == "templates":
            return text_bank(self.backbone, prompts.prompts)
        described = describe(prompts.class_names, self.descriptions)
        if choice == "with-template":
            described = tuple((*own, *more) for own, more in zip(prompts.prompts, described, strict=True))
        return text_bank(self.backbone, described)

    def crop(self, images: Tensor) -> Tensor:
        """Images [B, 3, H, W] -> N views [B, N, 3, H, W]."""
        crops = random_crops(images, self.draws, self.views, self.smallest_crop)
        if self.deviations["first_view"] == "image":
            return torch.cat([images[:, None], crops[:, 1:]], dim=1)
        return crops

    def weights(self, features: Tensor, bank: TextBank) -> Tensor:
        """Unit features [..., n, D] -> weights [..., n], one in sum: the surer of its class, the heavier."""
        if self.deviations["weights"] == "uniform":
            return features.new_full(features.shape[:-1], 1 / features.shape[-2])
        log_p = torch.log_softmax(self.backbone.logit_scale * features @ bank.means.T, dim=-1)
        entropy = -(log_p.exp() * log_p).sum(-1)
        return torch.softmax(-entropy / self.temperature, dim=-1)

    def plan(self, cost: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """T [B, K, N, M] of each transport problem; without transport, views and descriptions meet independently."""
        if self.deviations["transport"] == "mean":
            return rows[..., :, None] * columns[..., None, :]
        return transport_plan(
            cost, rows, columns, eps=self.eps, iterations=self.iterations, tolerance=self.tolerance
        )  # fmt: skip

    def _pooled(self, similarity: Tensor, plan: Tensor) -> Tensor:
        """1 - OT_y, scaled as CLIP scales a cosine: one view and one sentence give CLIP's own logits."""
        return self.backbone.logit_scale * (plan * similarity).sum((-2, -1))
