"""Counts what a piece of work costs: encoder passes and seconds."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.records import Cost


class Meter:
    """Passes and seconds since the meter was started."""

    def __init__(self) -> None:
        self.forward, self.backward, self.seconds = 0, 0, 0.0

    def frozen(self) -> Cost:
        """As a record."""
        return Cost(forward=self.forward, backward=self.backward, seconds=self.seconds)


@contextmanager
def metered(*backbones: Backbone) -> Iterator[Meter]:
    """Counts encoder passes and seconds of what happens inside. Backbones that share a counter count once."""
    counters = {id(b.passes): b.passes for b in backbones}.values()
    before, start, meter = [(c, c.forward, c.backward) for c in counters], time.perf_counter(), Meter()
    yield meter
    meter.seconds = time.perf_counter() - start
    meter.forward = sum(c.forward - forward for c, forward, _ in before)
    meter.backward = sum(c.backward - backward for c, _, backward in before)


def total(costs: Sequence[Cost]) -> Cost:
    """What several pieces cost together."""
    return Cost(
        forward=sum(c.forward for c in costs),
        backward=sum(c.backward for c in costs),
        seconds=sum(c.seconds for c in costs),
    )
