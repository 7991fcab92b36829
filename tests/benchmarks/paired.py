"""Two ways to do the same work, timed in turns in one process, so that whatever else runs disturbs both alike.

Times are of the processor (`time.process_time`), beside those of the clock, because machines are shared.
"""

import gc
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from scipy.stats import bootstrap

Work = Callable[[], object]


@dataclass(frozen=True)
class Timed:
    """Seconds of the processor and of the clock."""

    cpu: float
    wall: float


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Args:
        bench, work, peer: what was measured, and against what.
        unit: of `ours` and `theirs`.
        ours, theirs: medians.
        ratio: ours by theirs, the median of the pairs; `low` and `high` its 95 % interval, empty where there is none.
        pairs: how many.
        wall: the same ratio by the clock.
        target: what the ratio should be, in words.
        note: what must be known to read the line.
    """

    bench: str
    work: str
    peer: str
    unit: str
    ours: float
    theirs: float
    ratio: float
    low: float | str = ""
    high: float | str = ""
    pairs: int = 1
    wall: float | str = ""
    target: str = ""
    note: str = ""
    load: str = field(default_factory=lambda: f"{os.getloadavg()[0]:.1f}")


def timed(work: Work) -> Timed:
    """Does it once."""
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return Timed(time.process_time() - cpu, time.perf_counter() - wall)


def interleaved(ours: Work, theirs: Work, pairs: int) -> list[tuple[Timed, Timed]]:
    """Both in turns, after one round that counts for nothing; who goes first changes from pair to pair."""
    ours(), theirs()
    found = []
    for at in range(pairs):
        gc.collect()
        order = (ours, theirs) if at % 2 == 0 else (theirs, ours)
        first, second = timed(order[0]), timed(order[1])
        found.append((first, second) if at % 2 == 0 else (second, first))
    return found


def interval(ratios: Sequence[float]) -> tuple[float, float]:
    """95 % of the median of paired ratios: percentiles of 2,000 bootstrap samples, from a fixed seed."""
    found = bootstrap(
        (np.asarray(ratios),), np.median, n_resamples=2000, method="percentile", rng=np.random.default_rng(0)
    )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def compared(
    bench: str, work: str, peer: str, ours: Work, theirs: Work, pairs: int, *, target: str = "at most 1", note: str = ""
) -> Row:
    """Times both and says by how much they differ; at least two pairs."""
    times = interleaved(ours, theirs, pairs)
    ratios = [own.cpu / other.cpu for own, other in times]
    low, high = interval(ratios)
    return Row(
        bench, work, peer, "ms",
        ours=1000 * statistics.median(own.cpu for own, _ in times),
        theirs=1000 * statistics.median(other.cpu for _, other in times),
        ratio=statistics.median(ratios), low=low, high=high, pairs=pairs,
        wall=statistics.median(own.wall / other.wall for own, other in times), target=target, note=note,
    )  # fmt: skip


def machine() -> dict[str, str]:
    """Where the numbers were taken: without it they say nothing."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return {
        "processor": f"{name or platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "threads": str(torch.get_num_threads()),
        "torch": torch.__version__,
        "when": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }
