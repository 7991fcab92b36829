"""Work done inside the attack's loop against that of a large matrix product: how much of the machine is used."""

import statistics
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from vlm_gauntlet.attacks.pgd import PGD
from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.backbones import load_backbone
from vlm_gauntlet.fixtures.datasets import dataset
from vlm_gauntlet.methods.registry import method
from vlm_gauntlet.methods.victims import BoundDefence

from .paired import Row, interleaved, interval

RANDOM = "open_clip:ViT-B-32-quickgelu/random"
SIDE = 2048  # of the matrices


def rows(backbone: str, *, batch: int, steps: int, pairs: int) -> Iterator[Row]:
    """Share of the matrix product's FLOP/s in a run of PGD with so many steps on the undefended model."""
    model = load_backbone(backbone)
    prompts = dataset("fashion_mnist").prompted("dataset")
    victim = BoundDefence(method("undefended").build(model), prompts, tuple(range(batch)))
    images = torch.rand(batch, 3, model.image_size, model.image_size, generator=torch.Generator().manual_seed(0))
    labels = torch.zeros(batch, dtype=torch.long)
    left, right = torch.rand(2, SIDE, SIDE, generator=torch.Generator().manual_seed(1)).unbind()
    attack = PGD("linf", 1 / 255, steps=steps)

    def ours() -> None:
        attack(victim, images, labels, victim.keys)

    work = counted(model, victim, images, steps)
    times = interleaved(ours, lambda: left @ right, pairs)
    rates = [(work / own.cpu / 1e9, 2 * SIDE**3 / other.cpu / 1e9) for own, other in times]
    shares = [achieved / peak for achieved, peak in rates]
    low, high = interval(shares)
    yield Row(
        "flops", f"PGD-{steps}, {backbone.rpartition(':')[2]}, {batch} images", f"matmul {SIDE}", "GFLOP/s",
        ours=statistics.median(achieved for achieved, _ in rates), theirs=statistics.median(peak for _, peak in rates),
        ratio=statistics.median(shares), low=low, high=high, pairs=pairs, target="at least 0.7",
        note=f"{work / 1e9:.3g} GFLOP a run, as torch counts them: attention on a processor is left out",
    )  # fmt: skip


def counted(model: Backbone, victim: BoundDefence, images: Tensor, steps: int) -> float:
    """Floating-point operations of the attack: its gradients and the last look, counted on two images."""
    few, pair = images[:2], victim.select(torch.arange(2))

    def count(*, gradient: bool) -> int:
        with FlopCounterMode(display=False) as counter:
            inputs = few.detach().requires_grad_(gradient)
            with torch.set_grad_enabled(gradient):
                logits = pair(inputs)
            if gradient:
                logits.sum().backward()  # the counter's hooks do not stand `autograd.grad`; weights are frozen
        return int(counter.get_total_flops())

    model.text_features(victim.prompts)  # once for all steps, counted for none
    return (steps * count(gradient=True) + count(gradient=False)) * len(images) / len(few)
