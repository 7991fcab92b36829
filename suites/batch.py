"""One batch of a cell: make the adversarial images, then score clean and attacked images of the same samples."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from vlm_gauntlet.attacks.adaptive.eot import input_gradient
from vlm_gauntlet.attacks.balls import lp_norm
from vlm_gauntlet.attacks.base import AttackResult
from vlm_gauntlet.attacks.build import build_attack
from vlm_gauntlet.attacks.losses import cross_entropy
from vlm_gauntlet.attacks.multimodal.ascent import PairAscent
from vlm_gauntlet.attacks.multimodal.paired import Paired
from vlm_gauntlet.attacks.multimodal.recipes import RECIPES
from vlm_gauntlet.attacks.text.prompts import AttackedPrompts, attacked_prompts
from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.datasets import Batch
from vlm_gauntlet.fixtures.draws import Draws, key_of
from vlm_gauntlet.fixtures.errors import GauntletError
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.fixtures.protocols import Protocol
from vlm_gauntlet.fixtures.records import Cost, Sample
from vlm_gauntlet.methods.base import Defence
from vlm_gauntlet.methods.victims import BoundDefence

from .journal import BatchResult

HALF = {"bf16": torch.bfloat16, "amp-fp16": torch.float16}


def run_batch(
    defence: Defence, undefended: Defence, prompts: PromptSet, batch: Batch, protocol: Protocol, seed: int
) -> BatchResult:
    """Attacks and scores a batch. The result depends on sample ids and seed, not on the batch's size or order.

    Prompts are attacked once, whatever the image, as MMCoA tests it. Of the attacks on both images and text, Co-Attack,
    SGA and DRA read the attacked prompt of the true class while they attack the image, a joint one reads all attacked
    prompts; with any other the two do not meet before scoring (Sep-Attack).
    """
    device = defence.backbone.device
    images, labels = batch.images.to(device), batch.labels.to(device)
    randomised = defence.card.randomised
    with _metered(defence.backbone) as attack_cost:
        text = _attack_text(defence, undefended, prompts, protocol)
        result = _attack(defence, undefended, prompts, text, images, labels, batch.ids, protocol, seed)
    draws = protocol.scoring_draws if randomised else 1
    scoring = tuple(key_of(seed, "score", i) for i in batch.ids)
    with _metered(defence.backbone) as defence_cost:
        clean, calm = _score(defence, images, labels, prompts, scoring, draws)
    read, seen = text.prompts if text else prompts, result.images if result else images
    attacked, moved = _score(defence, seen, labels, read, scoring, draws) if result or text else (clean, calm)
    telemetry = {} if result is None else dict(result.telemetry)
    if result is not None:
        telemetry["batch_gap"] = _batch_gap(defence, images, prompts, scoring, calm)
    # the losses of attacks on pairs are of another size than the cross-entropy: their gradients are not compared
    if result is not None and protocol.threat.knowledge != "transfer" and protocol.attack not in RECIPES:
        telemetry["undefended_gradient_norm"] = _undefended_gradient(undefended, prompts, images, labels)
    if result is not None:
        telemetry |= {"repaired": result.repaired.float(), "success": result.success.float()}
    elif text is not None:  # no sentence leaves its budget: the search raises instead
        telemetry |= {"repaired": torch.zeros_like(labels), "success": attacked < draws}
        telemetry["unread_text"] = (calm == moved).all(1)
    return BatchResult(
        samples=tuple(
            Sample(id=i, label=int(y), clean=int(c), attacked=int(a))
            for i, y, c, a in zip(batch.ids, labels, clean, attacked, strict=True)
        ),
        telemetry={
            name: tuple(torch.nan_to_num(values.float()).tolist()) for name, values in sorted(telemetry.items())
        },
        defence_cost=Cost(
            forward=defence_cost.forward // draws,
            backward=defence_cost.backward // draws,
            seconds=defence_cost.seconds / draws,
        ),
        attack_cost=attack_cost.frozen(),
        notes=(*(result.notes if result else ()), *(text.notes if text else ())),
    )


def _attack(
    defence: Defence,
    undefended: Defence,
    prompts: PromptSet,
    text: AttackedPrompts | None,
    images: Tensor,
    labels: Tensor,
    ids: tuple[str, ...],
    protocol: Protocol,
    seed: int,
) -> AttackResult | None:
    target = undefended if protocol.threat.knowledge == "transfer" else defence
    keys = tuple(key_of(seed, "attack", i) for i in ids)
    attack = build_attack(protocol, deterministic=not target.card.randomised)
    if attack is None:
        return None
    if isinstance(attack, PairAscent) and text is not None:
        tower, read = _known_tower(defence, undefended, protocol), text.prompts
        paired = Paired(tower, tower.text_features(read)[labels], lambda features: tower.classify(features, read))
        return attack(paired, images, labels, keys)
    period = protocol.eot if protocol.draws == "fixed" else 0
    read = text.prompts if text is not None and protocol.joint else prompts
    victim = BoundDefence(target, read, keys, protocol.gradient, period)
    if protocol.labels == "pseudo":
        with torch.no_grad():
            labels = victim(images).argmax(1)
    with torch.autocast(images.device.type, HALF.get(protocol.precision), enabled=protocol.precision in HALF):
        return attack(victim, images, labels, keys)


def _attack_text(
    defence: Defence, undefended: Defence, prompts: PromptSet, protocol: Protocol
) -> AttackedPrompts | None:
    """The prompts that the attacker makes from the text tower he knows."""
    if protocol.text is None:
        return None
    return attacked_prompts(_known_tower(defence, undefended, protocol), prompts, protocol.text)


def _known_tower(defence: Defence, undefended: Defence, protocol: Protocol) -> Backbone:
    """The tower whose features an attacker of text reads: an adaptive one takes what the defence stands on.

    Raises:
        GauntletError: white-box, and the defence is more than a tower: the attack would not see it.
    """
    if protocol.threat.knowledge == "transfer" or defence.card.paradigm == "undefended":
        return undefended.backbone
    if defence.offers("tower"):
        return defence.tower
    if protocol.threat.knowledge != "adaptive":
        raise GauntletError(
            f"{defence.card.id} is more than a tower: the attack on text reads the tower alone",
            expected="the undefended model or a fine-tuned one", where=f"protocol {protocol.id}",
            fix="use the protocol whose name says adaptive: it reads the tower that the defence stands on",
        )  # fmt: skip
    return defence.backbone


def _score(
    defence: Defence, images: Tensor, labels: Tensor, prompts: PromptSet, keys: tuple[int, ...], draws: int
) -> tuple[Tensor, Tensor]:
    """How many of the scoring draws are right, for each sample [B]; and the logits [B, K] of the first draw."""
    with torch.no_grad():
        logits = [defence(images, prompts, draws=Draws(keys, call)) for call in range(draws)]
    return torch.stack([found.argmax(1) == labels for found in logits]).sum(0), logits[0]


def _batch_gap(defence: Defence, images: Tensor, prompts: PromptSet, keys: tuple[int, ...], logits: Tensor) -> Tensor:
    """How far the first sample's logits move when it comes alone, as a fraction of their range [1]."""
    if len(images) == 1:
        return logits.new_zeros(1)
    with torch.no_grad():
        alone = defence(images[:1], prompts, draws=Draws(keys[:1]))
    return (alone - logits[:1]).abs().max()[None] / (logits[0].max() - logits[0].min()).clamp_min(1e-6)


def _undefended_gradient(undefended: Defence, prompts: PromptSet, images: Tensor, labels: Tensor) -> Tensor:
    victim = BoundDefence(undefended, prompts, (0,) * len(images))
    gradient, _, _ = input_gradient(victim, images, labels, cross_entropy)
    return lp_norm(gradient, "l2")


class _Meter:
    def __init__(self) -> None:
        self.forward, self.backward, self.seconds = 0, 0, 0.0

    def frozen(self) -> Cost:
        return Cost(forward=self.forward, backward=self.backward, seconds=self.seconds)


@contextmanager
def _metered(backbone: Backbone) -> Iterator[_Meter]:
    """Counts encoder passes and seconds of what happens inside."""
    meter, start = _Meter(), time.perf_counter()
    forward, backward = backbone.passes.forward, backbone.passes.backward
    yield meter
    meter.seconds = time.perf_counter() - start
    meter.forward, meter.backward = backbone.passes.forward - forward, backbone.passes.backward - backward
