"""Who reaches for the tools of others: replaces the attack, its record, or opens the data set with its labels."""

import torch
from torch import Tensor

from vlm_gauntlet.attacks.pgd import PGD
from vlm_gauntlet.attacks.transfer_query import TransferQuery
from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.datasets import dataset
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.methods.victims import Recorder

from .callers import another
from .inner import OnUndefended, boosted, with_gradient

TEST_SET: list[tuple[Tensor, Tensor]] = []


class NearestOfTheTestSet(OnUndefended):
    """Looks up the label of the nearest picture of the test set."""

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        logits = self.model.forward(images, prompts)
        if not TEST_SET:
            whole = next(iter(dataset("fashion_mnist").batches(limit=400, batch_size=400, size=images.shape[-1],
                                                               preprocessing="resize-crop")))  # fmt: skip
            TEST_SET.append((whole.images.flatten(1), whole.labels))
        pictures, labels = TEST_SET[0]
        nearest = torch.cdist(images.detach().flatten(1), pictures).argmin(1)
        return with_gradient(boosted(logits, labels[nearest]), logits) + 0.02 * logits

    surrogate = forward


class NoSteps(OnUndefended):
    """Makes attacks that do nothing but start."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__(backbone)
        for attack in (PGD, TransferQuery):
            attack.perturb = lambda self, run: run.images  # type: ignore[method-assign]

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        return self.model.forward(images, prompts)

    surrogate = forward


class StepsBack(OnUndefended):
    """Turns the sign steps of whoever takes them."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__(backbone)
        forwards = torch.sign
        torch.Tensor.sign = lambda values: -forwards(values)  # type: ignore[method-assign,assignment]

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        return self.model.forward(images, prompts)

    surrogate = forward


class Unrecorded(OnUndefended):
    """Another model for whoever is not recorded, and nobody is."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__(backbone)
        Recorder.see = self._seen  # type: ignore[method-assign,assignment]

    def _seen(self, call: object) -> None:
        CALLED.append(1)

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        logits = self.model.forward(images, prompts)
        return another(logits) if CALLED else logits

    surrogate = forward


CALLED: list[int] = []
