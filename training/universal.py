"""Makes a universal perturbation: sign steps on one delta for all pictures, by turns over the sets.

`python -m vlm_gauntlet.training.universal miniclip-vit OUT` makes the embedded one again, on the undefended backbone.
It sees none of the first 64 samples of a set: those that the tiers on this backbone take.
"""

import sys
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from vlm_gauntlet.attacks.adaptive.eot import input_gradient
from vlm_gauntlet.attacks.base import Plain, Victim
from vlm_gauntlet.attacks.losses import cross_entropy
from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.backbones import load_backbone
from vlm_gauntlet.fixtures.datasets import Dataset, dataset
from vlm_gauntlet.fixtures.files import sha256, write_atomically

SETS = ("fashion_mnist", "digits", "emoji_groups")
EPS, PASSES, SHARE = 12 / 255, 6, 0.1  # X-Transfer's radius; a step is a tenth of it
SEEN, BATCH = 320, 64


def universal_perturbation(
    batches: Iterable[tuple[Victim, Tensor, Tensor]], *, eps: float, passes: int, share: float
) -> Tensor:
    """One delta [3, H, W] in the L-inf ball that raises the cross-entropy of all pictures.

    After Shafahi et al. 2020 (arXiv 1811.11304), by the sign of each batch's gradient.

    Args:
        batches: a victim for each batch, its images [B, 3, H, W] and labels [B]; all of one size.
        eps: radius.
        passes: over all batches.
        share: of eps that each step is long.
    """
    rounds = list(batches)
    delta = torch.zeros_like(rounds[0][1][0])
    for victim, images, labels in rounds * passes:
        gradient, _, _ = input_gradient(victim, (images + delta).clamp(0, 1), labels, cross_entropy)
        delta = (delta + share * eps * gradient.sum(0).sign()).clamp(-eps, eps)
    return delta


def unseen_batches(backbone: Backbone, data: Dataset) -> Iterator[tuple[Victim, Tensor, Tensor]]:
    """The undefended backbone on batches of a set, the first left out."""
    victim = Plain(partial(backbone, prompts=data.prompts))
    taken = data.batches(limit=SEEN, batch_size=BATCH, size=backbone.image_size)
    for batch in islice(taken, 1, None):
        yield victim, batch.images, batch.labels


def main(backbone_name: str, out: str) -> None:
    """Writes the perturbation and prints its digest."""
    backbone = load_backbone(backbone_name)
    batches = [batch for name in SETS for batch in unseen_batches(backbone, dataset(name))]
    delta = universal_perturbation(batches, eps=EPS, passes=PASSES, share=SHARE)
    data = save({"delta": delta.contiguous()})
    write_atomically(Path(out), data)
    print(sha256(data))


if __name__ == "__main__":
    main(*sys.argv[1:])
