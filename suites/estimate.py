"""How much a tier is, before any of it runs: cells, and the time that the cards' own measurements give."""

from collections.abc import Iterator

from vlm_gauntlet.attacks.protocols import protocol
from vlm_gauntlet.attacks.registry import parameters
from vlm_gauntlet.fixtures.errors import GauntletError
from vlm_gauntlet.methods.registry import without_unusable

from .described import described
from .tiers import Tier


def estimate(asked: Tier) -> tuple[str, int, int, int, int, int, str]:
    """Backbone, numbers of methods, data sets, protocols and cells, limit, and the time on one thread, in words.

    The time counts the steps of each attack by the times on cards, and nothing else (no restarts, draws, scoring of
    controls): a run takes at least that.
    """
    usable, _ = without_unusable(asked.methods)
    cells = len(usable) * len(asked.datasets) * len(asked.protocols)
    times = [*_times(asked, usable)]
    told = _words(sum(times)) if times else "not measured on this backbone"
    return (asked.backbone, len(usable), len(asked.datasets), len(asked.protocols), cells, asked.limit, told)


def _times(asked: Tier, usable: list[str]) -> Iterator[float]:
    """Seconds of each method that has a time on the backbone, over all of its cells."""
    steps = [*map(_steps, asked.protocols)]
    for name in usable:
        if timing := described(name).card.timing(asked.backbone):
            n = asked.limits.get(name, asked.limit) * len(asked.datasets)
            yield n * sum(count * timing.attack_ms + 2 * timing.defence_ms for count in steps) / 1000


def _steps(name: str) -> int:
    """Steps of a protocol's attack; of a clean one none, and of one without steps a single one."""
    try:
        chosen = protocol(name).attack
    except GauntletError:  # a file from outside, or a reported protocol: unknown before it is read
        return 1
    steps = parameters(chosen).get("steps", 0 if chosen.name == "none" else 1)
    return steps if isinstance(steps, int) else 1


def _words(seconds: float) -> str:
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"
