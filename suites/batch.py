"""One batch of a cell: make the adversarial images, then score clean and attacked images of the same samples."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from vlm_gauntlet.attacks.adaptive.eot import input_gradient
from vlm_gauntlet.attacks.balls import lp_norm
from vlm_gauntlet.attacks.base import Attack, Attacked
from vlm_gauntlet.attacks.losses import cross_entropy
from vlm_gauntlet.attacks.registry import build
from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.datasets import Batch
from vlm_gauntlet.fixtures.draws import Draws, key_of
from vlm_gauntlet.fixtures.errors import GauntletError
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.fixtures.protocols import Gradient, Protocol
from vlm_gauntlet.fixtures.records import Cost, Sample
from vlm_gauntlet.methods.base import Defence
from vlm_gauntlet.methods.victims import BoundDefence

from .journal import BatchResult


@dataclass(frozen=True)
class Evaluation:
    """What all batches of a cell share.

    Args:
        defence: what is attacked and scored.
        undefended: the same backbone without a defence, what a transfer attack is made on.
        prompts: the classes.
        protocol: the attack, and how the defence is asked.
        seed: of all random streams.
    """

    defence: Defence
    undefended: Defence
    prompts: PromptSet
    protocol: Protocol
    seed: int

    @property
    def target(self) -> Defence:
        """The model that the attacker goes through."""
        return self.undefended if self.protocol.threat.knowledge == "transfer" else self.defence

    @property
    def draws(self) -> int:
        """How often each image is scored."""
        return self.protocol.evaluation.scoring_draws if self.defence.card.randomised else 1


@dataclass
class BatchContext:
    """A batch under attack: see `attacks.base.Context`."""

    evaluation: Evaluation
    images: Tensor
    labels: Tensor
    keys: tuple[int, ...]

    @property
    def prompts(self) -> PromptSet:
        """The clean prompts."""
        return self.evaluation.prompts

    @property
    def deterministic(self) -> bool:
        """See Context."""
        return not self.evaluation.target.card.randomised

    @property
    def towers(self) -> tuple[Backbone, ...]:
        """See attacks.adaptive.routes.InformedContext."""
        target, undefended = self.evaluation.target, self.evaluation.undefended.backbone
        return (undefended, target.tuned_backbone) if target.offers("tuned_backbone") else (undefended,)

    def offers(self, part: str) -> bool:
        """See attacks.adaptive.routes.InformedContext."""
        return self.evaluation.target.offers(part)

    def victim(
        self, gradient: Gradient = "direct", *, period: int = 0, prompts: PromptSet | None = None
    ) -> BoundDefence:
        """See Context."""
        return BoundDefence(self.evaluation.target, prompts or self.prompts, self.keys, gradient, period)

    @property
    def known_backbone(self) -> Backbone:
        """The backbone whose features an attacker of text reads: an adaptive one takes what the defence stands on.

        Raises:
            GauntletError: white-box, and the defence is more than a tuned backbone: the attack would not see it.
        """
        defence, protocol = self.evaluation.defence, self.evaluation.protocol
        if protocol.threat.knowledge == "transfer" or defence.card.paradigm == "undefended":
            return self.evaluation.undefended.backbone
        if defence.offers("tuned_backbone"):
            return defence.tuned_backbone
        if protocol.threat.knowledge != "adaptive":
            raise GauntletError(
                f"{defence.card.id} is more than a tower: the attack on text reads the tower alone",
                expected="the undefended model or a fine-tuned one", where=f"protocol {protocol.id}",
                fix="use the protocol whose name says adaptive: it reads the tower that the defence stands on",
            )  # fmt: skip
        return defence.backbone


def run_batch(evaluation: Evaluation, batch: Batch) -> BatchResult:
    """Attacks and scores a batch. The result depends on sample ids and seed, not on the batch's size or order.

    Prompts are attacked once, whatever the image, as MMCoA tests it.
    """
    defence, draws = evaluation.defence, evaluation.draws
    device = defence.backbone.device
    images, labels = batch.images.to(device), batch.labels.to(device)
    attack = build(evaluation.protocol)
    keys = tuple(key_of(evaluation.seed, "attack", i) for i in batch.ids)
    with _metered(defence.backbone) as attack_cost:
        made = attack.attack_batch(BatchContext(evaluation, images, labels, keys)) if attack else Attacked()
    scoring = tuple(key_of(evaluation.seed, "score", i) for i in batch.ids)
    with _metered(defence.backbone) as defence_cost:
        clean, clean_logits = _score(evaluation, images, labels, evaluation.prompts, scoring)
    adversarial = images if made.result is None else made.result.images
    attacked, adversarial_logits = (
        _score(evaluation, adversarial, labels, made.prompts or evaluation.prompts, scoring)
        if made.result or made.prompts
        else (clean, clean_logits)
    )
    telemetry = {} if attack is None else _telemetry(evaluation, attack, made, images, labels)
    if made.result is not None:
        telemetry["batch_gap"] = _batch_gap(evaluation, images, scoring, clean_logits)
    elif made.prompts is not None:  # no sentence leaves its budget: the search raises instead
        telemetry |= {"repaired": torch.zeros_like(labels), "success": attacked < draws}
        telemetry["unread_text"] = (clean_logits == adversarial_logits).all(1)
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
        notes=(*(made.result.notes if made.result else ()), *made.notes),
    )


def _score(
    evaluation: Evaluation, images: Tensor, labels: Tensor, prompts: PromptSet, keys: tuple[int, ...]
) -> tuple[Tensor, Tensor]:
    """How many of the scoring draws are right, for each sample [B]; and the logits [B, K] of the first draw."""
    with torch.no_grad():
        logits = [evaluation.defence(images, prompts, draws=Draws(keys, call)) for call in range(evaluation.draws)]
    return torch.stack([found.argmax(1) == labels for found in logits]).sum(0), logits[0]


def _telemetry(
    evaluation: Evaluation, attack: Attack, made: Attacked, images: Tensor, labels: Tensor
) -> dict[str, Tensor]:
    """What the attack on images recorded [B each]; and the undefended gradient, where the two compare."""
    if made.result is None:
        return {}
    told = dict(made.result.telemetry)
    if evaluation.protocol.threat.knowledge != "transfer" and attack.losses_compare:
        victim = BoundDefence(evaluation.undefended, evaluation.prompts, (0,) * len(images))
        gradient, _, _ = input_gradient(victim, images, labels, cross_entropy)
        told["undefended_gradient_norm"] = lp_norm(gradient, "l2")
    return told | {"repaired": made.result.repaired.float(), "success": made.result.success.float()}


def _batch_gap(evaluation: Evaluation, images: Tensor, keys: tuple[int, ...], logits: Tensor) -> Tensor:
    """How far the first sample's logits move when it comes alone, as a fraction of their range [1]."""
    if len(images) == 1:
        return logits.new_zeros(1)
    with torch.no_grad():
        alone = evaluation.defence(images[:1], evaluation.prompts, draws=Draws(keys[:1]))
    return (alone - logits[:1]).abs().max()[None] / (logits[0].max() - logits[0].min()).clamp_min(1e-6)


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
