"""Which machine runs what, and when all are done: the longest cell first, each on the machine that is free first.

Graham's rule: never more than 4/3 of the best schedule.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from heapq import heappop, heappush


@dataclass(frozen=True)
class Schedule:
    """Who runs what.

    Args:
        machines: names of the jobs of each machine, in the order in which they run.
        seconds: for which each machine is busy.
    """

    machines: tuple[tuple[str, ...], ...]
    seconds: tuple[float, ...]

    @property
    def makespan(self) -> float:
        """Seconds until the last machine is done."""
        return max(self.seconds, default=0.0)

    def cost(self, hour: float) -> float:
        """What the machines cost, each paid for the hours in which it is busy."""
        return sum(self.seconds) / 3600 * hour


def schedule(jobs: Mapping[str, float], machines: int) -> Schedule:
    """Spreads jobs (name -> seconds) over so many machines; equal jobs by name, so that everybody finds the same."""
    lists: list[list[str]] = [[] for _ in range(machines)]
    busy, free = [0.0] * machines, [(0.0, number) for number in range(machines)]
    for name in sorted(jobs, key=lambda name: (-jobs[name], name)):
        seconds, number = heappop(free)
        lists[number].append(name)
        busy[number] = seconds + jobs[name]
        heappush(free, (busy[number], number))
    return Schedule(tuple(map(tuple, lists)), tuple(busy))
