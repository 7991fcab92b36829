"""Checks under attack: parameters survive, gradients are alive, the adaptive attacker is the strongest."""

import math

import torch
from torch import Tensor

from vlm_gauntlet.attacks.adaptive.eot import input_gradient
from vlm_gauntlet.attacks.balls import lp_norm
from vlm_gauntlet.attacks.base import AttackResult, Plain, Victim
from vlm_gauntlet.attacks.indicators import dead_gradient
from vlm_gauntlet.attacks.losses import cross_entropy
from vlm_gauntlet.fixtures.draws import Draws
from vlm_gauntlet.fixtures.protocols import Gradient
from vlm_gauntlet.methods.base import GRADIENTS, Defence

from .bench import Bench
from .report import Status

Answer = tuple[Status, str]
MASKED_SHARE = 0.5  # of the samples on which the undefended backbone has a gradient


def check_parameters_survive_attack(bench: Bench) -> Answer:
    """Bit-identical parameters and buffers without `.grad` after an attack by each gradient that it can give.

    Without an `unrolled` of its own, that is `forward`: the plain attack has run it.
    """
    others: list[Gradient] = ["backbone"]
    if bench.method.defence.offers("unrolled"):
        others.append("unrolled")
    trials = [*bench.trials, *(bench.trial(route, steps=2) for route in others)]
    changed, graded = (sorted({n for t in trials for n in getattr(t, what)}) for what in ("changed", "graded"))
    if changed or graded:
        words = [f"changed: {_few(changed)}"] if changed else []
        words += [f"with a gradient: {_few(graded)}"] if graded else []
        return "fail", f"after an attack, {'; '.join(words)}: take gradients with torch.autograd.grad, write to copies"
    return "pass", f"{trials[0].tensors} tensors are bit-identical and without .grad after {len(trials)} attacks"


def check_gradient_reaches_image(bench: Bench) -> Answer:
    """Through the defence, or at least through its surrogate."""
    defence = bench.defence()
    plain, through = (_gradient_norms(bench, bench.victim(defence, route)) for route in ("direct", "straight-through"))
    if not torch.isfinite(torch.cat([plain, through])).all():
        return "fail", "the gradient is NaN or infinite: look for 0/0 and log(0) in the backward pass"
    if plain.max() > 0:
        return "pass", f"median norm {float(plain.median()):.3g} through the defence"
    if through.max() > 0:
        return "pass", f"none through the defence, median norm {float(through.median()):.3g} through its surrogate"
    return "fail", "no gradient reaches the image, not even through `surrogate`: write one that an attacker can use"


def check_zero_budget_is_identity(bench: Bench) -> Answer:
    """PGD with eps = 0 returns the images bit for bit."""
    result = bench.attack(bench.defence(), steps=2, eps=0.0)
    if not torch.equal(result.images, bench.images):
        return "fail", "PGD with eps = 0 changed the images: the defence writes into its input"
    return "pass", "PGD with eps = 0 returns the same images"


def check_masked_gradient(bench: Bench) -> Answer:
    """Names the defence `masked gradient` where its plain gradient is dead, or leaves many more than its surrogate's.

    A warning when the class declares a surrogate that is no weaker than BPDA with the backbone's gradient.
    """
    defence = bench.defence()
    undefended = _gradient_norms(bench, Plain(lambda images: bench.backbone(images, bench.material.prompts)))
    plain = _gradient_norms(bench, bench.victim(defence))
    usable = undefended > 0
    zero = float((plain[usable] == 0).float().mean()) if usable.any() else 0.0
    ratio = dead_gradient(plain, undefended)
    by_defence, by_surrogate = bench.plain_and_adaptive
    if not ratio.fired and zero < MASKED_SHARE:
        if _weaker(by_defence, by_surrogate):
            return "warn", (
                f"masked gradient: alive, yet PGD-10 leaves {_left(by_defence)}, "
                f"through the surrogate {_left(by_surrogate)}. Only adaptive results count"
            )
        return "pass", f"gradients are {ratio.value:.2g} of the undefended backbone's, zero on {zero:.0%} of the images"
    seen = f"zero on {zero:.0%} of the images" if zero >= MASKED_SHARE else f"{ratio.value:.1g} of the backbone's"
    if type(defence).surrogate is Defence.surrogate:
        return "fail", (
            f"masked gradient: {seen}, so white-box attacks prove nothing. Write `surrogate`: "
            "what the strongest attacker would differentiate"
        )
    bpda = bench.bpda()
    if _weaker(by_surrogate, bpda):
        return "fail", (
            f"masked gradient: {seen}, and the class's `surrogate` leaves {_left(by_surrogate)} where the backbone's "
            f"gradient (BPDA) leaves {_left(bpda)}: improve it, or return straight_through(forward(...), backbone(...))"
        )
    return "warn", f"masked gradient: {seen}. Only adaptive results count; they go through the class's `surrogate`"


def check_surrogate_has_forward_values(bench: Bench) -> Answer:
    """On the same draws `surrogate` returns the logits of `forward`; only its gradient may differ."""
    defence, prompts = bench.defence(), bench.material.prompts
    value = bench.logits(defence, bench.images, bench.keys)
    for route, name in GRADIENTS.items():
        if route == "relaxed":  # has values of its own
            continue
        through = defence(bench.images, prompts, draws=Draws(bench.keys), gradient=route).detach()
        if not (gap := bench.differ(value, through)):
            continue
        return "fail", (
            f"logits of `{name}` differ from `forward` by {gap:.3g}, so an attack would break another model: "
            "return straight_through(forward(...), ...)"
        )
    return "pass", "`forward`, `surrogate` and `unrolled` give the same logits"


def check_adaptive_attack_is_strongest(bench: Bench) -> Answer:
    """PGD through the surrogate with EOT breaks at least as many images as PGD through the defence, within noise."""
    plain, adaptive = bench.plain_and_adaptive
    seen = (
        f"at eps = {bench.eps * 255:.0f}/255, PGD-10 leaves {_left(plain)} of {len(plain.success)}, "
        f"through the surrogate {_left(adaptive)}"
    )
    if _weaker(adaptive, plain):
        return "fail", f"{seen}: the surrogate is weaker than the plain gradient, improve it or return forward()"
    return "pass", seen


def check_clean_accuracy(bench: Bench) -> Answer:
    """For information: what the defence costs without an attack."""
    labels = bench.material.labels
    defended = bench.logits(bench.defence(), bench.images, bench.keys).argmax(1) == labels
    undefended = bench.undefended_logits.argmax(1) == labels
    return (
        "pass",
        f"without attack, undefended {int(undefended.sum())} and defended {int(defended.sum())} of {len(labels)}",
    )


def _gradient_norms(bench: Bench, victim: Victim) -> Tensor:
    gradient, _, _ = input_gradient(victim, bench.images, bench.material.labels, cross_entropy)
    return lp_norm(gradient, "l2")


def _weaker(first: AttackResult, second: AttackResult) -> bool:
    """Whether the first attack breaks fewer images than the second, beyond chance (paired, two standard errors).

    Of the images on which two equally strong attacks differ, about half would favour either.
    """
    missed, extra = (int((a.success & ~b.success).sum()) for a, b in ((second, first), (first, second)))
    return missed - extra > 2 * math.sqrt(missed + extra)


def _left(result: AttackResult) -> int:
    return int((~result.success).sum())


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
