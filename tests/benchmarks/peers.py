"""Attacks beside those of torchattacks, foolbox and the official AutoAttack: same model, images and budget.

A peer gets the bare backbone, we go through all that a cell goes through. Of a peer that returns images alone, the one
question that tells which of them were broken counts as its work, since every user must ask it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from vlm_gauntlet.attacks.autoattack import APGDCE, APGDT, official
from vlm_gauntlet.attacks.base import Attack
from vlm_gauntlet.attacks.ensembles import Standard
from vlm_gauntlet.attacks.fab import FABT
from vlm_gauntlet.attacks.pgd import PGD
from vlm_gauntlet.attacks.square import Square
from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.backbones import load_backbone
from vlm_gauntlet.fixtures.datasets import Batch, dataset
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.methods.base import Defence
from vlm_gauntlet.methods.registry import method
from vlm_gauntlet.methods.victims import BoundDefence, Recorder

from .paired import Row, compared

BACKBONE, SET = "miniclip-vit", "fashion_mnist"
EPS = 16 / 255  # where PGD-10 breaks this backbone undefended, and TeCoA keeps about half


class Bare(nn.Module):
    """A backbone as peers want a model: images alone go in.

    Args:
        backbone: the model.
        prompts: the classes.
    """

    def __init__(self, backbone: Backbone, prompts: PromptSet) -> None:
        super().__init__()
        self.backbone, self.prompts = backbone, prompts

    def forward(self, images: Tensor) -> Tensor:
        """Images [B, 3, H, W] -> logits [B, K]."""
        return self.backbone(images, self.prompts)


@dataclass(frozen=True)
class Scene:
    """A defence of the house, the same tower bare, and some samples.

    Args:
        name: of the method.
        defence: as a cell builds it.
        bare: what peers attack.
        batch: the samples.
    """

    name: str
    defence: Defence
    bare: Bare
    batch: Batch

    def ours(self, attack: Attack) -> Tensor:
        """One run of an attack of the house, recorded as in a cell -> broken [B]."""
        keys = tuple(range(len(self.batch.labels)))
        victim = BoundDefence(self.defence, self.bare.prompts, keys, recorder=Recorder())
        return attack(victim, self.batch.images, self.batch.labels, keys).success

    def asked(self, images: Tensor) -> Tensor:
        """Which of a peer's images are broken [B]."""
        with torch.no_grad():
            return self.bare(images).argmax(1) != self.batch.labels


def scene(name: str, count: int) -> Scene:
    """So many images of Fashion-MNIST before a method on the embedded ViT."""
    backbone, data = load_backbone(BACKBONE), dataset(SET)
    defence = method(name).build(backbone)
    tower = defence.tuned_backbone if defence.offers("tuned_backbone") else backbone
    (batch,) = data.batches(limit=count, batch_size=count, size=backbone.image_size)
    return Scene(name, defence, Bare(tower, data.prompted("dataset")).eval(), batch)


@dataclass(frozen=True)
class Peer:
    """A peer's attack: bare model, scene -> broken [B]."""

    name: str
    run: Callable[[Scene], Tensor]


def available() -> dict[str, str]:
    """Versions of the peers that are installed here, and why another one is not."""
    found = {}
    for name in ("torchattacks", "foolbox"):
        try:
            found[name] = import_module(name).__version__
        except ImportError as error:
            found[name] = f"not here: {error}"
    return found


def torchattacks_peer(kind: str, **settings: object) -> Peer:
    """An attack of torchattacks by its class; what it returns is asked once."""

    def run(scene: Scene) -> Tensor:
        attack = getattr(import_module("torchattacks"), kind)(scene.bare, eps=EPS, **settings)
        return scene.asked(attack(scene.batch.images, scene.batch.labels))

    return Peer("torchattacks", run)


def foolbox_pgd(steps: int) -> Peer:
    """The projected gradient descent of foolbox, which tells by itself what was broken."""

    def run(scene: Scene) -> Tensor:
        foolbox = import_module("foolbox")
        model = foolbox.PyTorchModel(scene.bare, bounds=(0, 1), device="cpu")
        attack = foolbox.attacks.LinfPGD(abs_stepsize=EPS / 4, steps=steps, random_start=True)
        broken: Tensor = attack(model, scene.batch.images, scene.batch.labels, epsilons=EPS)[2]
        return broken

    return Peer("foolbox", run)


def official_peer(module: str, kind: str, **settings: Any) -> Peer:
    """A single attack of the official code by module and class; what it returns is asked once."""

    def run(scene: Scene) -> Tensor:
        made = getattr(official(module), kind)(scene.bare, norm="Linf", eps=EPS, seed=0, device="cpu", **settings)
        with torch.random.fork_rng():
            return scene.asked(made.perturb(scene.batch.images, scene.batch.labels))

    return Peer("official", run)


def official_whole(steps: int) -> Peer:
    """The official AutoAttack `standard` with so many steps, and 50 queries of Square a step."""

    def run(scene: Scene) -> Tensor:
        made = official("autoattack").AutoAttack(scene.bare, norm="Linf", eps=EPS, seed=0, version="standard")
        made.verbose = False
        for part in (made.apgd, made.apgd_targeted, made.fab):
            part.n_iter = steps
        made.square.n_queries = 50 * steps
        with torch.random.fork_rng():
            return scene.asked(made.run_standard_evaluation(scene.batch.images, scene.batch.labels)[0])

    return Peer("official", run)


@dataclass(frozen=True)
class Match:
    """An attack of ours and its peers."""

    work: str
    ours: Attack
    peers: tuple[Peer, ...]


def pgd(steps: int) -> Match:
    """PGD with steps of eps / 4 from a random start."""
    theirs = torchattacks_peer("PGD", alpha=EPS / 4, steps=steps, random_start=True)
    return Match(f"PGD-{steps}", PGD("linf", EPS, steps=steps), (theirs, foolbox_pgd(steps)))


def parts(steps: int) -> Iterator[Match]:
    """The parts of AutoAttack; 9 targets where there are any, 5 queries of Square a step."""
    apgd = {"n_iter": steps, "n_restarts": 1, "eot_iter": 1}
    yield Match(
        f"APGD-CE-{steps}", APGDCE("linf", EPS, steps=steps),
        (official_peer("autopgd_base", "APGDAttack", **apgd), torchattacks_peer("APGD", steps=steps)),
    )  # fmt: skip
    yield Match(
        f"APGD-T-{steps}", APGDT("linf", EPS, steps=steps),
        (official_peer("autopgd_base", "APGDAttack_targeted", **apgd), torchattacks_peer("APGDT", steps=steps)),
    )  # fmt: skip
    yield Match(
        f"FAB-T-{steps}", FABT("linf", EPS, steps=steps),
        (official_peer("fab_pt", "FABAttack_PT", n_iter=steps, targeted=True),
         torchattacks_peer("FAB", steps=steps, multi_targeted=True)),
    )  # fmt: skip
    queries = 5 * steps
    yield Match(
        f"Square-{queries}", Square("linf", EPS, queries=queries),
        (official_peer("square", "SquareAttack", n_queries=queries, resc_schedule=True),
         torchattacks_peer("Square", n_queries=queries, resc_schedule=True)),
    )  # fmt: skip


def rows(scene: Scene, match: Match, pairs: int) -> Iterator[Row]:
    """A line for each peer that is installed."""
    here = available()
    for peer in match.peers:
        if not here.get(peer.name, "").startswith("not here"):
            work = f"{match.work}, {scene.name}, {len(scene.batch.labels)} images"
            yield compared(
                "attacks", work, peer.name, partial(scene.ours, match.ours), partial(peer.run, scene), pairs,
                note=_broken(scene, match, peer),
            )  # fmt: skip


def _broken(scene: Scene, match: Match, peer: Peer) -> str:
    """How many each of them breaks: a faster attack that breaks less is none."""
    return f"broken: {int(scene.ours(match.ours).sum())} and {int(peer.run(scene).sum())}"


def whole(steps: int) -> Match:
    """AutoAttack `standard`, all parts."""
    return Match(f"AutoAttack-{steps}", Standard("linf", EPS, steps=steps), (official_whole(steps),))
