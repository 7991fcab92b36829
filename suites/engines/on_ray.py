"""Runs cells on the machines that Ray holds. Whatever becomes of a cell or a machine, the other cells run.

A cell is one task: a GPU each where the device is `cuda`, a processor each elsewhere. It is not divided further: its
batches are one log, in order, from which a killed one goes on. Machines may come and go: what is not begun waits in one
queue, and a cell whose worker was lost begins again elsewhere, from the batch in flight where the folder of outcomes is
shared, else from its first. Each machine needs the same installation (compared before a cell runs), and data sets and
weights of its own.
"""

import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Any

from vlm_gauntlet.fixtures.errors import GauntletError, UnavailableError
from vlm_gauntlet.fixtures.parts import is_there
from vlm_gauntlet.suites.cells import CellPlan
from vlm_gauntlet.suites.described import code_of, described
from vlm_gauntlet.suites.journal import Journal
from vlm_gauntlet.suites.planning.work import key_of
from vlm_gauntlet.suites.record_folder import BusyError
from vlm_gauntlet.suites.running import this_command
from vlm_gauntlet.suites.shared_store import journal_at, place_at

from .ends import BY_HAND, TIME_OVER, Asked, CellEnd, end_of, failed

MOST_LOST = 5
"""Workers that one cell may lose: it may be the cell that ends them."""
QUEUED = 1000
"""Cells that Ray knows of at a time: enough for machines that come while it runs, and to be seen by what adds them."""


@dataclass(frozen=True)
class Job:
    """A cell as it travels: names and plain values, of which the other machine makes the same plan.

    Args:
        method: its name.
        rest: the other fields of the plan.
        code: digest of its code where the run was asked for.
        folder: of outcomes, on whichever machine.
        store: that machines share, if there is one.
        asked: how it is run.
        until: seconds of the clock after which it is not begun; the machines' clocks should agree within minutes.
        place: folder in which the run was asked for, and where Python looks for code: code from outside lies there.
        wait: for another process that has it.
    """

    method: str
    rest: dict[str, Any]
    code: str
    folder: Path
    store: str | None
    asked: Asked
    until: float
    place: tuple[str, tuple[str, ...]]
    wait: bool = False


def work(job: Job) -> CellEnd | None:
    """What a worker does with a job; None where another process has the cell."""
    folder, path = job.place
    if Path(folder).is_dir():
        os.chdir(folder)
    sys.path += [each for each in path if each not in sys.path]
    cell = CellPlan(method=described(job.method), **job.rest)
    if time.time() >= job.until:
        return CellEnd(key_of(cell), "not reached", TIME_OVER)
    if (own := code_of(cell.method, cell.backbone_name)) != job.code:
        return failed(cell, _other_code(own, job.code))
    began = time.monotonic()
    try:
        end = end_of(cell, journal_at(job.folder, job.store), job.asked, wait=job.wait)
    except BusyError:
        return None
    return replace(end, seconds=round(time.monotonic() - began, 3))


def run_cells_on_ray(
    cells: Sequence[CellPlan],
    folder: Path,
    asked: Asked,
    *,
    store: str | None = None,
    address: str | None = None,
    seconds: float | None = None,
    told: Callable[[CellEnd], None] = lambda _: None,
    lost: Callable[[CellPlan, str], None] = lambda *_: None,
) -> list[CellEnd]:
    """Runs cells, those first that come first; an interrupt ends the run, and nothing else does.

    Outcomes are written by the worker that made them, into its `folder`, and here where that is another disk.

    Args:
        cells: what to run.
        folder: of outcomes, the same path everywhere; best on a disk that all machines share.
        asked: how.
        store: that machines share, where they share no disk: see `suites/shared_store.py`.
        address: of the cluster, such as `ray://head:10001` or `auto`; None: RAY_ADDRESS, else this machine alone.
        seconds: no cell is begun after so many.
        told: gets the end of each cell at once.
        lost: gets each cell whose worker was lost, and how; it begins again.

    Returns: one end a cell, as they came.

    Raises:
        UnavailableError: Ray is not installed, or there is no cluster at that address.
    """
    if store:
        place_at(store)  # an error now, not one in every cell
    asked = replace(asked, command=asked.command or this_command())
    with _cluster(address) as ray:
        run = _Run(ray, Journal(folder), told, lost)
        until = float("inf") if seconds is None else time.time() + seconds
        code = cache(lambda name, backbone: code_of(described(name), backbone))
        place = (os.getcwd(), tuple(sys.path))
        for cell in cells:
            rest = {f.name: getattr(cell, f.name) for f in fields(CellPlan) if f.name != "method"}
            name = cell.method.name
            job = Job(name, rest, code(name, cell.backbone_name), folder.absolute(), store, asked, until, place)
            run.waiting.append((cell, job, 0))
        try:
            run.all()
        except KeyboardInterrupt:
            run.stop()
        return run.ends


class _Run:
    """The queue, what Ray has of it, and what has ended."""

    def __init__(
        self, ray: Any, journal: Journal, told: Callable[[CellEnd], None], lost: Callable[[CellPlan, str], None]
    ) -> None:
        self.ray, self.journal, self.told, self.lost = ray, journal, told, lost
        self.waiting: deque[tuple[CellPlan, Job, int]] = deque()
        self.busy: list[tuple[CellPlan, Job, int]] = []
        self.running: dict[Any, tuple[CellPlan, Job, int]] = {}
        self.ends: list[CellEnd] = []

    def all(self) -> None:
        """Until every cell has an end."""
        while self.waiting or self.running or self.busy:
            if not (self.waiting or self.running):  # first what nobody has
                self.waiting.extend((cell, replace(job, wait=True), lost) for cell, job, lost in self.busy)
                self.busy.clear()
            while self.waiting and len(self.running) < QUEUED:
                self._submit(*self.waiting.popleft())
            done, _ = self.ray.wait(list(self.running), num_returns=1)
            for reference in done:
                self._take(reference)

    def stop(self) -> None:
        """Ends what runs; batches that are done stay done."""
        for reference in self.running:
            self.ray.cancel(reference)
        for cell, _, _ in (*self.running.values(), *self.waiting, *self.busy):
            self._end(CellEnd(key_of(cell), "not reached", BY_HAND))

    def _submit(self, cell: CellPlan, job: Job, lost: int) -> None:
        # What is lost comes back here: Ray's own retries would not tell, and never give up on a cell that kills.
        needs = {"num_cpus": 1, "num_gpus": int(cell.device == "cuda"), "max_retries": 0}
        self.running[self.ray.remote(**needs)(work).remote(job)] = cell, job, lost

    def _take(self, reference: Any) -> None:
        (cell, job, lost), raised = self.running[reference], self.ray.exceptions
        end, error = None, None
        try:
            end = self.ray.get(reference)
        except raised.RayError as found:
            error = found
        del self.running[reference]  # not before: an interrupt leaves the cell among those that run
        if isinstance(error, raised.RayTaskError):  # raised before its cell could: no such method there, say
            self._end(failed(cell, _wrong(f"a worker that cannot run it: {error.cause!r}", "the same installation")))
        elif error is not None and lost + 1 < MOST_LOST:
            self.lost(cell, type(error).__name__)
            self.waiting.appendleft((cell, job, lost + 1))
        elif error is not None:
            came = f"it lost {MOST_LOST} workers, at last by {type(error).__name__}"
            self._end(failed(cell, _wrong(came, "workers that stay")))
        elif end is None:
            self.busy.append((cell, job, lost))
        else:
            self._end(end)

    def _end(self, end: CellEnd) -> None:
        if end.outcome is not None and not is_there(self.journal.folder / f"{end.outcome.key}.json"):
            try:
                self.journal.write(end.outcome)
            except GauntletError as error:
                end = replace(end, word="failed", reason=error.short, error=error)
        self.ends.append(end)
        self.told(end)


@contextmanager
def _cluster(address: str | None) -> Iterator[Any]:
    """Ray, connected; a cluster that was begun here ends here."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere
    try:
        import ray  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise UnavailableError(
            "Ray is not installed", expected="the extra `ray`", where="--engine ray",
            fix='pip install "vlm-gauntlet[ray]"',
        ) from None  # fmt: skip
    if ray.is_initialized():
        yield ray
        return
    try:
        ray.init(address=address, log_to_driver=False)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UnavailableError(
            f"no cluster: {str(error).splitlines()[0]}", expected="one at that address", where="--address",
            fix="start one with `ray start --head`, or leave the option out for this machine alone",
        ) from error  # fmt: skip
    try:
        yield ray
    finally:
        ray.shutdown()


def _wrong(came: str, expected: str) -> GauntletError:
    fix = "look at the worker's log (`ray logs`), then run the same command again: finished cells are taken"
    return GauntletError(came, expected=expected, where="--engine ray", fix=fix)


def _other_code(own: str, asked: str) -> GauntletError:
    return _wrong(f"a worker with other code ({own[:8]}, not {asked[:8]})", "the same installation on every machine")
