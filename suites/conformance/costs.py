"""What a defence costs, and an attack on it: passes are counted and compared with the card, times are only told."""

import json
import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from vlm_gauntlet.attacks.adaptive.eot import input_gradient
from vlm_gauntlet.attacks.losses import cross_entropy
from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.device import device_name, seconds_on
from vlm_gauntlet.methods.base import Defence
from vlm_gauntlet.methods.card import Cost, Timing
from vlm_gauntlet.methods.registry import Method
from vlm_gauntlet.methods.victims import BoundDefence

from .bench import Bench, default_material
from .report import Status

Answer = tuple[Status, str]
Work = Callable[[Bench, Defence, int], object]  # on the first n pictures of the bench
REPEATS = 3


def predict(bench: Bench, defence: Defence, n: int) -> object:
    """One prediction of `n` images."""
    return bench.logits(defence, bench.images[:n], bench.keys[:n])


def differentiate(bench: Bench, defence: Defence, n: int) -> object:
    """One gradient of the adaptive attacker for `n` images, of one draw."""
    victim = BoundDefence(defence, bench.material.prompts, bench.keys[:n], "straight-through")
    return input_gradient(victim, bench.images[:n], bench.material.labels[:n], cross_entropy)


def check_cost_as_declared(bench: Bench) -> Answer:
    """Passes of the image encoder for one image, counted and compared with the card."""
    return _compared(bench, predict, "an image", bench.method.card.cost, lambda timing: timing.defence_ms)


def check_attack_cost_as_declared(bench: Bench) -> Answer:
    """Passes for one gradient of the adaptive attacker, one draw and one image, counted and compared with the card."""
    declared = bench.method.card.attack_cost
    return _compared(bench, differentiate, "an adaptive gradient", declared, lambda timing: timing.attack_ms)


@dataclass(frozen=True)
class Measurement:
    """What was counted and timed on one backbone."""

    cost: Cost
    attack_cost: Cost
    timing: Timing

    def toml(self) -> str:
        """Lines to paste into `card.toml` and `measured.toml`."""
        told = self.timing.model_dump(mode="json", exclude={"measured"})
        return "\n".join([
            "# card.toml", f"cost = {_table(self.cost)}", "",
            "# measured.toml", f"attack_cost = {_table(self.attack_cost)}", "",
            "[[timings]]", *(f"{key} = {json.dumps(value)}" for key, value in told.items()),
            f"measured = {self.timing.measured}",
        ])  # fmt: skip


def measure(method: Method, backbone: Backbone) -> Measurement:
    """Counts passes for one image, and times a batch of the bench's pictures on the threads that torch has.

    Raises:
        UnavailableError: the defence needs a checkpoint that is not on this machine.
    """
    bench = Bench(method, backbone, default_material(backbone))
    timing = Timing(
        backbone=backbone.name, device=device_name(str(backbone.device)), batch_size=len(bench.keys),
        defence_ms=_milliseconds(bench, predict), attack_ms=_milliseconds(bench, differentiate),
        measured=datetime.now(UTC).date(),
    )  # fmt: skip
    return Measurement(_counted(bench, predict), _counted(bench, differentiate), timing)


def _compared(
    bench: Bench, work: Work, unit: str, declared: Cost | None, declared_ms: Callable[[Timing], float]
) -> Answer:
    found = _counted(bench, work)
    seen = f"measured {found.forward} forward and {found.backward} backward passes {unit}"
    if declared is None:
        return "skip", f"{seen}; the card declares no such cost"
    if found != declared and bench.method.deviations:
        at = f"{declared.forward} and {declared.backward}"
        return "skip", f"{seen}; the card speaks of the method without its deviations: {at}"
    if found != declared:
        return "fail", f"{seen}, the card says {declared.forward} and {declared.backward}: correct the card"
    seen += ", as the card says"
    if timing := bench.method.card.timing(bench.backbone.name):
        here = _milliseconds(bench, work, repeats=1)
        seen += f"; here {here:g} ms, the card says {declared_ms(timing):g} ms ({timing.device})"
    return "pass", seen


def _counted(bench: Bench, work: Work) -> Cost:
    """Passes of the image encoder for one image."""
    defence = bench.defence()
    before = replace(defence.backbone.passes)
    work(bench, defence, 1)
    passes = defence.backbone.passes - before
    return Cost(forward=passes.forward, backward=passes.backward)


def _milliseconds(bench: Bench, work: Work, *, repeats: int = REPEATS) -> float:
    """Median time an image in a batch of all pictures, to three digits, after a call that fills the caches."""
    defence, n = bench.defence(), len(bench.keys)
    work(bench, defence, 1)
    seconds = []
    for _ in range(repeats):
        start = seconds_on(bench.backbone.device)
        work(bench, defence, n)
        seconds.append(seconds_on(bench.backbone.device) - start)
    return float(f"{1000 * statistics.median(seconds) / n:.3g}")


def _table(cost: Cost) -> str:
    return f"{{ forward = {cost.forward}, backward = {cost.backward} }}"
