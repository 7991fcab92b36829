"""On a real cluster of Ray a node is killed: the results are those of a run without Ray, bit for bit."""

import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from filelock import FileLock, Timeout

from vlm_gauntlet.fixtures.errors import UnavailableError
from vlm_gauntlet.fixtures.records import Outcome
from vlm_gauntlet.suites.cells import CellPlan, plan
from vlm_gauntlet.suites.described import code_of, described
from vlm_gauntlet.suites.engines import on_ray
from vlm_gauntlet.suites.engines.ends import TIME_OVER, Asked, CellEnd
from vlm_gauntlet.suites.engines.local import run_cells
from vlm_gauntlet.suites.engines.on_ray import MOST_LOST, Job, run_cells_on_ray, work
from vlm_gauntlet.suites.journal import Journal
from vlm_gauntlet.suites.planning.work import key_of
from vlm_gauntlet.suites.shared_store import place_at

from ..leaderboard.factory import outcome

METHODS, SET = ["undefended", "rn"], ["digits"]


@pytest.fixture
def cells() -> list[CellPlan]:
    protocols = ["pgd-100-white-box-linf-8-255", "pgd-100-white-box-linf-16-255"]  # seconds each: a node dies in one
    return plan(METHODS, "miniclip-vit", SET, protocols, limit=4, batch_size=1)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Two nodes with one processor each; nothing of it outlives the test."""
    why = "needs the extra `ray`: make beyond"
    ray = pytest.importorskip("ray", reason=why)
    from ray.cluster_utils import Cluster  # pyright: ignore[reportMissingImports]

    for name, value in {
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",
    }.items():
        monkeypatch.setenv(name, value)
    folder = tempfile.mkdtemp(prefix="r")  # pytest's own names are too long for a socket
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "temp_dir": folder, "include_dashboard": False})
    try:
        yield made
    finally:
        ray.shutdown()
        made.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


def held(folder: Path) -> int:
    """Cells that a process works on now."""
    found = 0
    for path in (folder / ".locks").glob("*"):
        try:
            with FileLock(path, timeout=0):
                pass
        except Timeout:
            found += 1
    return found


def die(cluster: Any, node: Any) -> None:
    """Ends a node as a machine ends that loses its power: its workers at the same moment, none of which finishes."""
    (head,) = node.all_processes["raylet"]
    workers = Path(f"/proc/{head.process.pid}/task/{head.process.pid}/children").read_text().split()
    for process in (head.process.pid, *map(int, workers)):
        os.kill(process, signal.SIGKILL)
    cluster.remove_node(node, allow_graceful=False)


def bits(ends: list[CellEnd]) -> dict[str, tuple[str, str]]:
    """Key and results of each cell."""
    return {end.key: (end.outcome.key, end.outcome.bits_digest) for end in ends if end.outcome is not None}


def without_time(o: Outcome) -> dict[str, Any]:
    """Everything that a clock does not tell."""
    told = o.model_dump(mode="json", exclude={"provenance"})
    for cost in ("defence_cost", "attack_cost"):
        del told[cost]["seconds"]
    return told


@pytest.mark.network  # of this machine
def test_a_killed_node_changes_no_bit(cells: list[CellPlan], cluster: Any, tmp_path: Path) -> None:
    alone = run_cells(cells, Journal(tmp_path / "alone"))
    node = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    lost: list[str] = []
    killed = threading.Event()
    folder = tmp_path / "ray"

    def kill() -> None:
        until = time.monotonic() + 300
        while time.monotonic() < until:
            if held(folder) >= 2:  # a cell on each node
                die(cluster, node)
                killed.set()
                return
            time.sleep(0.005)

    other = threading.Thread(target=kill)
    other.start()
    store = str(tmp_path / "store")
    ends = run_cells_on_ray(
        cells, folder, Asked(), address=cluster.address, store=store, lost=lambda cell, how: lost.append(how)
    )
    other.join()
    assert killed.is_set() and lost, "the node was to be killed in the middle of a cell"
    assert sorted(e.key for e in ends) == sorted(map(key_of, cells)), "one end each"
    assert {e.word for e in ends} == {"ran"}, ends
    assert bits(ends) == bits(alone)
    whole = {o.key: without_time(o) for o in Journal(folder).outcomes()}
    assert whole == {o.key: without_time(o) for o in Journal(tmp_path / "alone").outcomes()}
    assert place_at(store).names() == sorted(f"{key}.json" for key in whole)
    assert all(o.provenance.command for o in Journal(folder).outcomes())


class Broken(Exception):
    """In place of Ray's own errors."""


class Raised(Broken):
    """What a task raised itself."""

    cause = ValueError("no such method")


@dataclass(eq=False)
class Reference:
    """What Ray gives for a task."""

    job: Job


class Scripted:
    """Ray, as far as the runner asks it: each cell does in turn what a script says."""

    exceptions = SimpleNamespace(RayError=Broken, RayTaskError=Raised)

    def __init__(self, cells: list[CellPlan], *script: list[object]) -> None:
        self.script = {cell.id: list(acts) for cell, acts in zip(cells, script, strict=True)}
        self.order: list[tuple[str, bool]] = []
        self.needs: list[dict[str, int]] = []
        self.cancelled = 0

    def remote(self, **needs: int) -> Any:
        self.needs.append(needs)
        return lambda _: SimpleNamespace(remote=Reference)

    def wait(self, references: list[Any], num_returns: int) -> tuple[list[Any], list[Any]]:
        return references[:num_returns], references[num_returns:]

    def get(self, reference: Any) -> object:
        job = reference.job
        name = CellPlan(method=described(job.method), **job.rest).id
        self.order.append((name, job.wait))
        act = self.script[name].pop(0)
        if isinstance(act, BaseException):
            raise act
        return act

    def cancel(self, _: Any) -> None:
        self.cancelled += 1


def scripted(
    ray: Scripted, cells: list[CellPlan], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[list[CellEnd], list[str]]:
    """The ends of a run, and the cells that were lost on the way."""
    monkeypatch.setattr(on_ray, "_cluster", lambda _: nullcontext(ray))
    lost: list[str] = []
    return run_cells_on_ray(cells, folder, Asked(), lost=lambda cell, how: lost.append(f"{cell.id} {how}")), lost


def ran(cell: CellPlan, made: Outcome | None = None) -> CellEnd:
    return CellEnd(key_of(cell), "ran", outcome=made)


def test_whatever_becomes_of_a_cell_the_others_run(
    cells: list[CellPlan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two, three, four = cells
    made = outcome("10")
    ray = Scripted(
        cells, [Broken(), Broken(), ran(one, made)], [None, ran(two)], [Raised()], [Broken() for _ in range(MOST_LOST)]
    )  # fmt: skip
    ends, lost = scripted(ray, cells, tmp_path, monkeypatch)
    words = {end.key: end.word for end in ends}
    assert words == {key_of(one): "ran", key_of(two): "ran", key_of(three): "failed", key_of(four): "failed"}
    assert sorted(lost) == sorted([f"{one.id} Broken"] * 2 + [f"{four.id} Broken"] * (MOST_LOST - 1))
    assert ray.order[-1] == (two.id, True), "another process has it: it comes last, and is waited for"
    assert Journal(tmp_path).find(made.key) == made, "made on another disk"
    reasons = {end.key: end.reason for end in ends}
    assert "no such method" in reasons[key_of(three)] and f"lost {MOST_LOST} workers" in reasons[key_of(four)]
    assert all(needs == {"num_cpus": 1, "num_gpus": 0, "max_retries": 0} for needs in ray.needs)


def test_an_interrupt_leaves_the_rest(cells: list[CellPlan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_gpu = [replace(cell, device="cuda") for cell in cells]
    ray = Scripted(on_gpu, [ran(on_gpu[0])], [KeyboardInterrupt()], [], [])
    ends, _ = scripted(ray, on_gpu, tmp_path, monkeypatch)
    assert [end.word for end in ends] == ["ran", *["not reached"] * 3] and ray.cancelled == 3
    assert {needs["num_gpus"] for needs in ray.needs} == {1}


def job(cell: CellPlan, folder: Path, **changed: object) -> Job:
    rest = {f.name: getattr(cell, f.name) for f in fields(CellPlan) if f.name != "method"}
    code = code_of(cell.method, cell.backbone_name)
    asked = Job(cell.method.name, rest, code, folder, None, Asked(), float("inf"), (".", ()))
    return replace(asked, **changed)  # type: ignore[arg-type]


def test_a_worker_with_other_code_or_too_late_runs_nothing(cells: list[CellPlan], tmp_path: Path) -> None:
    other = work(job(cells[0], tmp_path, code="0" * 64))
    late = work(job(cells[0], tmp_path, until=time.time() - 1))
    assert other is not None and other.word == "failed" and "other code" in other.reason
    assert late is not None and (late.word, late.reason) == ("not reached", TIME_OVER)
    assert not list(tmp_path.iterdir())


def test_without_ray_it_says_what_to_install(
    cells: list[CellPlan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UnavailableError, match="Ray is not installed"):
        run_cells_on_ray(cells, tmp_path, Asked())
