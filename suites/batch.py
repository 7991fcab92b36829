"""One batch of a cell: make the adversarial images, then score attacked and clean images of the same samples.

The attack goes through the defence in this process; who scores is a `Scorer`, in a cell a witness in another one.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from vlm_gauntlet.attacks.adaptive.eot import input_gradient
from vlm_gauntlet.attacks.balls import lp_norm
from vlm_gauntlet.attacks.base import Attack, Attacked, Victim
from vlm_gauntlet.attacks.gradient_check import LEAST_STEPS, agreement
from vlm_gauntlet.attacks.gradients import GradientAttack
from vlm_gauntlet.attacks.losses import cross_entropy
from vlm_gauntlet.attacks.registry import build
from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.datasets import Batch
from vlm_gauntlet.fixtures.draws import key_of
from vlm_gauntlet.fixtures.errors import GauntletError
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.fixtures.protocols import Gradient, Protocol, Stored
from vlm_gauntlet.fixtures.records import Cost, Sample
from vlm_gauntlet.methods.base import Defence
from vlm_gauntlet.methods.victims import BoundDefence, Recorder

from .journal import BatchResult
from .metered import metered
from .replay import gap, regrouped, replayed, replayed_draws, secret_keys
from .scoring import Answers, InProcess, Rearranged, Scorer
from .stored import as_stored

Ask = Callable[[], Answers]

NOT_REPLAYED = ("unrolled", "relaxed")  # their logits need not be `forward`'s, which is asked again
CONFIRMING = 30  # draws that the choice of the worst attack never sees


def confirming_draws(protocol: Protocol, *, randomised: bool) -> int:
    """Draws of an attacked image on which no attack is chosen: of a randomised defence, under strong attacks on itself.

    A weaker attack that does better nevertheless counts by the draws that chose it, which favours the attacker.
    """
    attack, knowledge = build(protocol), protocol.threat.knowledge
    if attack is None or not randomised or protocol.threat.harmless:
        return 0
    return CONFIRMING if knowledge == "black-box" or is_checked(protocol, attack) else 0


def is_checked(protocol: Protocol, attack: Attack) -> bool:
    """Whether the gradient that an attack follows is compared with the function: where it may prove something."""
    informed = protocol.threat.knowledge in ("white-box", "adaptive") and not protocol.threat.harmless
    return informed and isinstance(attack, GradientAttack) and attack.total_steps >= LEAST_STEPS


@dataclass(frozen=True)
class Evaluation:
    """What all batches of a cell share.

    Args:
        defence: what is attacked.
        undefended: the same backbone without a defence, what a transfer attack is made on.
        prompts: the classes.
        protocol: the attack, and how the defence is asked.
        seed: of all random streams.
        sources: models that images may be transferred from, by name.
    """

    defence: Defence
    undefended: Defence
    prompts: PromptSet
    protocol: Protocol
    seed: int
    sources: Mapping[str, Defence] = field(default_factory=dict)

    @property
    def target(self) -> Defence:
        """The model that the attacker goes through."""
        return self.undefended if self.protocol.threat.knowledge == "transfer" else self.defence

    @property
    def asked(self) -> "Asked":
        """How it is scored."""
        return Asked(
            self.prompts, self.seed, self.draws, self.confirming, self.defence.card.randomised,
            self.defence.batch_coupled, str(self.defence.backbone.device), self.protocol.evaluation.stored,
        )  # fmt: skip

    @property
    def draws(self) -> int:
        """How often each image is scored."""
        return self.protocol.evaluation.scoring_draws if self.defence.card.randomised else 1

    @property
    def confirming(self) -> int:
        """How often the attacked image is scored once more, on draws that the choice of the worst attack never sees."""
        return confirming_draws(self.protocol, randomised=self.defence.card.randomised)


@dataclass(frozen=True)
class Asked:
    """How a defence is scored: all that is known of it where its code does not run.

    Args:
        prompts: the classes.
        seed: of the scoring draws.
        draws: how often each image is scored.
        confirming: how often the attacked image is scored again, on other draws.
        randomised: whether it draws.
        coupled: whether a sample's answer depends on its batch.
        device: torch device.
        stored: how attacked images reach it.
    """

    prompts: PromptSet
    seed: int
    draws: int
    confirming: int
    randomised: bool
    coupled: bool
    device: str
    stored: Stored = "floats"


@dataclass
class BatchContext:
    """A batch under attack: see `attacks.base.Context`."""

    evaluation: Evaluation
    images: Tensor
    labels: Tensor
    keys: tuple[int, ...]
    recorder: Recorder = field(default_factory=Recorder)

    @property
    def prompts(self) -> PromptSet:
        """The clean prompts."""
        return self.evaluation.prompts

    @property
    def deterministic(self) -> bool:
        """See Context."""
        return not self.evaluation.target.card.randomised

    def offers(self, part: str) -> bool:
        """See attacks.adaptive.routes.InformedContext."""
        return self.evaluation.target.offers(part)

    def victim(
        self, gradient: Gradient = "direct", *, period: int = 0, prompts: PromptSet | None = None
    ) -> BoundDefence:
        """See Context."""
        own = self.evaluation.target is self.evaluation.defence and gradient not in NOT_REPLAYED
        seen = self.recorder if own else None
        return BoundDefence(self.evaluation.target, prompts or self.prompts, self.keys, gradient, period, recorder=seen)

    def sources(self, prompts: PromptSet | None = None) -> Mapping[str, Victim]:
        """See Context."""
        return {
            name: BoundDefence(source, prompts or self.prompts, self.keys)
            for name, source in self.evaluation.sources.items()
        }

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


@dataclass(frozen=True)
class Made:
    """What the attack made of a batch: images [B, 3, H, W] or prompts or both, and what it recorded."""

    images: Tensor | None
    prompts: PromptSet | None
    telemetry: dict[str, Tensor]
    cost: Cost
    notes: tuple[str, ...]
    recorder: Recorder


def run_batch(evaluation: Evaluation, batch: Batch, scorer: Scorer | None = None) -> BatchResult:
    """Attacks and scores a batch. The result depends on sample ids and seed, not on the batch's size or order.

    Prompts are attacked once, whatever the image, as MMCoA tests it.

    Args:
        evaluation: what all batches share.
        batch: the samples.
        scorer: who asks the defence afterwards; default: this process.
    """
    made = attack_batch(evaluation, batch)
    return score_batch(evaluation.asked, batch, made, scorer or InProcess(evaluation.defence))


def attack_batch(evaluation: Evaluation, batch: Batch) -> Made:
    """Attacks a batch; nothing is scored."""
    device = evaluation.defence.backbone.device
    images, labels = batch.images.to(device), batch.labels.to(device)
    attack = build(evaluation.protocol)
    keys = tuple(key_of(evaluation.seed, "attack", i) for i in batch.ids)
    context = BatchContext(evaluation, images, labels, keys)
    with metered(evaluation.defence.backbone) as cost:
        made = attack.attack_batch(context) if attack else Attacked()
    telemetry = {} if attack is None else _telemetry(context, attack, made)
    return Made(
        images=None if made.result is None else made.result.images, prompts=made.prompts, telemetry=telemetry,
        cost=cost.frozen(), notes=(*(made.result.notes if made.result else ()), *made.notes),
        recorder=context.recorder,
    )  # fmt: skip


def score_batch(
    asked: Asked, batch: Batch, made: Made, scorer: Scorer, once: Callable[[Ask], Answers] | None = None
) -> BatchResult:
    """Scores what the attack made, then the clean images, and asks again what the attack was answered.

    Args:
        asked, batch, made: how, of which samples, after which attack.
        scorer: who asks the defence.
        once: given the question about the clean images, its answer; default: it is asked.
    """
    draws, prompts = asked.draws, asked.prompts
    images, labels = batch.images.to(asked.device), batch.labels.to(asked.device)
    changed = made.images is not None or made.prompts is not None
    keys = tuple(key_of(asked.seed, "score", i) for i in batch.ids)
    if not asked.randomised:  # what draws nothing has no use for what a seed tells
        keys = secret_keys(len(keys))
    shuffled = Rearranged(scorer, coupled=asked.coupled)
    calls, fresh = range(draws), None
    if changed:
        final = images if made.images is None else as_stored(made.images, asked.stored)
        read = made.prompts or prompts
        found = shuffled.score(final, read, keys, range(draws + asked.confirming))
        right = (found.classes == labels).long()
        attacked, logits = right[:draws].sum(0), found.logits
        fresh = right[draws:].sum(0) if asked.confirming else None
    ask = partial(shuffled.score, images, prompts, keys, calls)
    answer = once(ask) if once else ask()  # last: the clean image's answer could be remembered
    clean = (answer.classes == labels).long().sum(0)
    telemetry = dict(made.telemetry)
    if not changed:
        attacked = clean
    elif made.images is not None:
        telemetry["batch_gap"] = _batch_gap(scorer, images, prompts, keys, answer.logits)
    else:  # no sentence leaves its budget: the search raises instead
        telemetry |= {"repaired": torch.zeros_like(labels), "success": attacked < draws}
        telemetry["unread_text"] = (answer.logits == logits).all(1)
    if changed:
        telemetry |= replayed(scorer, made.recorder, randomised=asked.randomised)
        if made.images is not None and not asked.coupled:
            moved = regrouped(scorer, made.recorder, randomised=asked.randomised)
            telemetry["batch_gap"] = torch.cat([telemetry["batch_gap"], moved.to(telemetry["batch_gap"])])
        if asked.randomised:
            telemetry |= replayed_draws(scorer, final, read, labels, right, calls)
    return BatchResult(
        samples=tuple(
            Sample(id=i, label=int(labels[at]), clean=int(clean[at]), attacked=int(attacked[at]),
                   fresh=None if fresh is None else int(fresh[at]))
            for at, i in enumerate(batch.ids)
        ),
        telemetry={
            name: tuple(torch.nan_to_num(values.float()).tolist())
            for name, values in sorted(telemetry.items())
        },
        defence_cost=Cost(
            forward=answer.cost.forward // draws,
            backward=answer.cost.backward // draws,
            seconds=answer.cost.seconds / draws,
        ),
        attack_cost=made.cost,
        notes=made.notes,
    )  # fmt: skip


def _telemetry(context: BatchContext, attack: Attack, made: Attacked) -> dict[str, Tensor]:
    """What the attack on images recorded [B each], and what can be told of its gradients."""
    if made.result is None:
        return {}
    evaluation, result = context.evaluation, made.result
    told = {**result.telemetry, "repaired": result.repaired.float(), "success": result.success.float()}
    if evaluation.protocol.threat.knowledge == "transfer" or evaluation.protocol.threat.harmless:
        return told
    if attack.losses_compare:
        plain = BoundDefence(evaluation.undefended, evaluation.prompts, (0,) * len(context.images))
        gradient, _, _ = input_gradient(plain, context.images, context.labels, cross_entropy)
        told["undefended_gradient_norm"] = lp_norm(gradient, "l2")
    if isinstance(attack, GradientAttack) and is_checked(evaluation.protocol, attack) and made.prompts is None:
        told |= _agreement(context, attack, result.images)
    return told


def _agreement(context: BatchContext, attack: GradientAttack, attacked: Tensor) -> dict[str, Tensor]:
    """How well the gradient that the attack follows predicts the loss, at clean and at attacked images [B each]."""
    eps = float(context.evaluation.protocol.threat.eps)
    size = eps if attack.norm == "linf" else eps / math.sqrt(attacked[0].numel())
    return {
        f"agreement_{name}": agreement(
            context.victim(attack.gradient, period=1), images, context.labels, context.keys, eps=size
        )
        for name, images in (("clean", context.images), ("attacked", attacked))
    }


def _batch_gap(scorer: Scorer, images: Tensor, prompts: PromptSet, keys: tuple[int, ...], logits: Tensor) -> Tensor:
    """How far the first sample's logits move when it comes alone, as a fraction of their range [1]."""
    if len(images) == 1:
        return logits.new_zeros(1)
    return gap(scorer.score(images[:1], prompts, keys[:1], (0,)).logits, logits[:1])
