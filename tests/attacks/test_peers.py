"""Equal to our peers: the iterates of torchattacks and foolbox (recorded in golden/), the strength of pyautoattack."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from vlm_gauntlet.attacks.autoattack import APGDCE, official
from vlm_gauntlet.attacks.base import Plain, Run
from vlm_gauntlet.attacks.fmn import FMN
from vlm_gauntlet.attacks.pgd import PGD, fgsm

GOLDEN = json.loads((Path(__file__).parent / "golden" / "peers.json").read_text())
EPS, FIXED = GOLDEN["eps"], {"steps": GOLDEN["steps"], "step_size": 0.25, "random_start": False}
IMAGES, LABELS, START = torch.tensor(GOLDEN["images"]), torch.tensor(GOLDEN["labels"]), torch.tensor(GOLDEN["start"])
KEYS = tuple(range(40))


def tiny(images: Tensor) -> Tensor:
    first, second = (torch.tensor(GOLDEN[name]).double() for name in ("first", "second"))
    return torch.tanh(images.double().flatten(1) @ first) @ second


class Started(PGD):
    """PGD from the peer's own random start."""

    def start(self, run: Run, restart: int) -> Tensor:
        return START


class PublishedFMN(FMN):
    """FMN with the published first ball, as foolbox has it."""

    def first_reach(self, grown: Tensor, estimated: Tensor) -> Tensor:
        return estimated


OURS = {
    "torchattacks PGD": Started("linf", EPS, steps=FIXED["steps"]),
    "torchattacks FGSM": fgsm("linf", EPS),
    "torchattacks BIM": PGD("linf", EPS, **FIXED),
    "torchattacks MI-FGSM": PGD("linf", EPS, **FIXED, momentum=1.0),
    "foolbox FGSM": fgsm("linf", EPS),
    "foolbox BIM": PGD("linf", EPS, **FIXED),
    "foolbox L2 BIM": PGD("l2", EPS, **FIXED),
    "foolbox FMN": PublishedFMN("linf", 1.0, steps=GOLDEN["search"]),
}


@pytest.mark.parametrize("name", GOLDEN["made"])
def test_the_same_iterate_from_the_same_start(name: str) -> None:
    expected = torch.tensor(GOLDEN["made"][name])
    assert (expected - IMAGES).abs().max() > 0.01
    found = OURS[name](Plain(tiny), IMAGES, LABELS, KEYS[:4]).images
    assert torch.allclose(found, expected, atol=1e-6)


def test_the_recorded_attacks_differ() -> None:
    made = {name: torch.tensor(result) for name, result in GOLDEN["made"].items()}
    for one, other in (("PGD", "BIM"), ("BIM", "FGSM"), ("BIM", "MI-FGSM")):
        assert not torch.allclose(made[f"torchattacks {one}"], made[f"torchattacks {other}"], atol=1e-3)


def test_apgd_breaks_as_many_as_the_official_one_from_its_own_starts(toy: tuple[nn.Module, Tensor, Tensor]) -> None:
    """Over five seeds: other starts, other samples perhaps, but the same share of them."""
    model, images, labels = toy
    library, shares = official("autopgd_base"), []
    for seed in range(5):
        theirs = library.APGDAttack(
            lambda x: model(x).float(), n_iter=15, norm="Linf", eps=0.07, seed=seed, device=torch.device("cpu")
        )
        with torch.no_grad(), torch.random.fork_rng():
            broken = (model(theirs.perturb(images, labels)).argmax(1) != labels).float().mean()
        keys = tuple(range(40 * seed, 40 * seed + 40))
        ours = APGDCE("linf", 0.07, steps=15)(Plain(model), images, labels, keys).success.float().mean()
        shares.append((float(broken), float(ours)))
    difference = torch.tensor([a - b for a, b in shares])
    assert 0.1 < shares[0][0] < 0.9
    assert difference.mean().abs() <= 0.025 and difference.abs().max() <= 0.075
