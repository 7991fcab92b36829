"""The pytest plug-in: options, markers, header, and the matrix method x data set x protocol as test ids.

Loaded by `-p vlm_gauntlet.suites.plugin` (this repository's pyproject.toml does it).
"""

import os
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import pytest
from _pytest.mark.expression import Expression

from vlm_gauntlet.fixtures.errors import GauntletError

from .gpus import gpus, pin

if TYPE_CHECKING:
    from .archive import Archive
    from .cells import CellPlan

pytest_plugins = ["vlm_gauntlet.suites.falsified"]
MARKERS = {
    "fast": "CPU, minutes, the embedded ViT; sockets are blocked",
    "mini": "CPU, the whole matrix on the embedded CNN at the papers' threat models",
    "nightly": "GPU, real CLIP, subsets",
    "full": "GPU, real CLIP, whole test sets",
    "gpu": "wants a GPU",
    "adaptive": "the attacker knows the defence",
    "network": "may fetch weights or data",
}

Keeping: TypeAlias = "Callable[[CellPlan], Archive | None]"
WAITING = {"mini", "nightly", "full"}  # until somebody asks for them


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of the suites; each has a default from its tier."""
    group = parser.getgroup("gauntlet", "VLM Gauntlet: what to attack and how")
    group.addoption(
        "--method",
        action="append",
        metavar="NAME",
        help="method id, id+deviation=choice, module:Class or file.py:Class; repeatable",
    )
    group.addoption("--dataset", action="append", metavar="NAME", help="data set; repeatable")
    group.addoption("--protocol", action="append", metavar="ID", help="id (`gauntlet protocols`) or file; repeatable")
    group.addoption("--device", default="cpu", help="torch device (default: cpu)")
    group.addoption(
        "--limit", type=int, metavar="N", help="N samples of each data set, the first of a fixed permutation"
    )
    group.addoption(
        "--seed", type=int, help="seed of attacks, defences and scoring (default: 0; of nightly and full a secret one)"
    )
    group.addoption(
        "--outcomes",
        type=Path,
        metavar="DIR",
        help="folder of outcomes (default: in pytest's cache); finished cells are taken from it",
    )
    group.addoption("--archive", action="store_true", help="keep attacked images in DIR/archive/, for gauntlet verify")
    group.addoption("--shard", metavar="I/N", help="one of N parts of the cells, of about equal length")


def pytest_configure(config: pytest.Config) -> None:
    """Registers the markers; without `-m`, the suites run their fast tier. A worker sees one GPU."""
    pin(config.getoption("--device"))
    for name, meaning in MARKERS.items():
        config.addinivalue_line("markers", f"{name}: {meaning}")
    as_started(config)
    _check_names(config.getoption("--method"), config.getoption("--protocol"), config.getoption("--shard"))
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if workers > 1:  # threads of several workers on the same cores wait for one another
        import torch

        torch.set_num_threads(max(1, (os.cpu_count() or 1) // workers))


def as_started(config: pytest.Config) -> None:
    """Gives a worker of xdist, started by `python -c`, the command line that people typed: outcomes tell it."""
    if typed := getattr(config, "workerinput", {}).get("mainargv"):
        sys.argv = [*typed]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """With `-n auto` on GPUs, one worker for each of them."""
    if config.getoption("--device") != "cuda" or not (count := len(gpus())):
        return None
    config.option.maxprocesses = None  # what pyproject.toml says of processors
    return count


def _check_names(methods: list[str] | None, protocols: list[str] | None, part: str | None) -> None:
    """Unknown names end the session before collection, with near misses."""
    if not (methods or protocols or part):
        return
    from .described import described
    from .planning.shards import parse
    from .runnable import protocols_named

    try:
        for name in methods or []:
            described(name)
        for name in protocols or []:
            protocols_named(name, "any")
        if part:
            parse(part)
    except GauntletError as error:
        raise pytest.UsageError(str(error)) from None


def pytest_report_header(config: pytest.Config) -> list[str]:
    """What this run stands on."""
    import torch

    from vlm_gauntlet.fixtures.datasets import DATA_ROOT, data_root

    seed = config.getoption("--seed")
    root = data_root()
    kept = ", attacked images in its folder archive" if config.getoption("--archive") else ""
    return [
        f"gauntlet: device {config.getoption('--device')}, torch {torch.__version__}, "
        f"{os.cpu_count()} cores, seed {0 if seed is None else seed}",
        f"gauntlet: data root {root.resolve() if root else f'none ({DATA_ROOT} is unset): embedded data sets only'}",
        f"gauntlet: outcomes in {outcomes_folder(config)}{kept}",
    ]


def outcomes_folder(config: pytest.Config) -> Path:
    """Where the outcomes of this run lie."""
    given = config.getoption("--outcomes")
    if given is not None:
        return Path(given)
    cache = getattr(config, "cache", None)
    if cache is None:
        raise pytest.UsageError("pytest's cache is off: give --outcomes DIR")
    return Path(cache.mkdir("gauntlet-outcomes"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One id for each cell of each tier (`cell_plan`), each tier (`tier_name`) or each method (`method_name`).

    Cells and claims, of which there are thousands, are planned only for tiers that this run can select.
    """
    from .tiers import TIERS, tier

    if "method_name" in metafunc.fixturenames:
        metafunc.parametrize("method_name", metafunc.config.getoption("--method") or tier("fast").methods)
    if "claim" in metafunc.fixturenames:
        metafunc.parametrize("claim", _claims(metafunc.config) if _selectable(metafunc) else [])
    if "cell_plan" in metafunc.fixturenames:
        names = [name for name in TIERS if _selectable(metafunc, *(mark.name for mark in _marks(name)))]
        metafunc.parametrize("cell_plan", [p for name in names for p in _cells(metafunc.config, name)])
    elif "tier_name" in metafunc.fixturenames:
        metafunc.parametrize("tier_name", [pytest.param(name, id=name, marks=_marks(name)) for name in TIERS])


def _selectable(metafunc: pytest.Metafunc, *marks: str) -> bool:
    """Whether this run can select the test with these marks beside its own, `adaptive` or not."""
    own = {*marks, *(mark.name for mark in metafunc.definition.iter_markers())}
    asked = metafunc.config.option.markexpr
    if not asked:
        return not (_by_default(metafunc.config) and own & WAITING)
    try:
        expression = Expression.compile(asked)
        return any(expression.evaluate(_Known(own | more)) for more in (set(), {"adaptive"}))
    except (SyntaxError, TypeError, pytest.UsageError):  # pytest says what is wrong with it
        return True


class _Known(set[str]):
    """Marks, in the form that pytest's expressions ask them."""

    def __call__(self, name: str, /, **_: object) -> bool:
        return name in self


def _by_default(config: pytest.Config) -> bool:
    """Whether nobody said which tests to run."""
    return not (config.option.markexpr or config.option.keyword or any("::" in a for a in config.args))


def _marks(tier_name: str) -> list[pytest.MarkDecorator]:
    from .tiers import tier

    chosen = tier(tier_name)
    names = [tier_name, *(["gpu"] if chosen.gpu else []), *(["network"] if chosen.network else [])]
    return [getattr(pytest.mark, name) for name in names]


def _claims(config: pytest.Config) -> list[object]:
    """One id for each accuracy that a source reports of a chosen method."""
    from vlm_gauntlet.methods.claims import PERCENT, claims

    chosen, sets = config.getoption("--method"), config.getoption("--dataset")
    return [
        pytest.param(c, id=c.id)
        for c in claims()
        if c.metric in PERCENT and (not chosen or c.method in chosen) and (not sets or c.dataset in sets)
    ]


def _cells(config: pytest.Config, tier_name: str) -> list[object]:
    adaptive = [pytest.mark.adaptive]
    return [
        pytest.param(c, id=f"{tier_name}-{c.id}",
                     marks=[*_marks(tier_name), *(adaptive if c.protocol.threat.knowledge == "adaptive" else [])])
        for c in cells_of(config, tier_name)
    ]  # fmt: skip


def cells_of(config: pytest.Config, tier_name: str) -> "list[CellPlan]":
    """The cells of a tier, with this run's options in place of the tier's own.

    A method of the tier that cannot be used has none; `test_parts.py` fails for it, in every tier.
    """
    from vlm_gauntlet.methods.registry import without_unusable

    from .cells import plan
    from .planning.shards import shard
    from .seeds import seed_of
    from .tiers import tier

    chosen = tier(tier_name)
    limit = config.getoption("--limit")
    folder = outcomes_folder(config) if chosen.secret_seed else Path()
    seed, part = config.getoption("--seed"), config.getoption("--shard")
    cells = plan(
        config.getoption("--method") or without_unusable(chosen.methods)[0],
        chosen.backbone,
        config.getoption("--dataset") or chosen.datasets,
        config.getoption("--protocol") or chosen.protocols,
        limit=limit or chosen.limit,
        limits={} if limit else chosen.limits,
        seed=seed_of(chosen, seed, folder),
        device=config.getoption("--device"),
        batch_size=chosen.batch_size,
    )
    return shard(cells, part, secret=chosen.secret_seed and seed is None) if part else cells


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Claims are judged when the cells have run; without `-m` and `-k`, the long tiers wait until asked for."""
    items.sort(key=lambda item: item.path.name == "test_claims.py")
    if not _by_default(config):
        return
    waiting = [i for i in items if any(i.get_closest_marker(m) for m in WAITING)]
    if waiting:
        config.hook.pytest_deselected(items=waiting)
        items[:] = [i for i in items if i not in set(waiting)]


@pytest.fixture(autouse=True)
def _no_network(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Everything but tests marked `network` runs with sockets blocked."""
    if request.node.get_closest_marker("network") is None:
        connect = socket.socket.connect

        def refuse(own: socket.socket, address: object) -> None:
            if own.family == getattr(socket, "AF_UNIX", None):  # how two processes of this machine talk
                return connect(own, address)  # type: ignore[arg-type]
            raise GauntletError(
                "a network connection",
                expected="offline tests",
                where=request.node.nodeid,
                fix="ship the data, or mark the test `network`",
            )

        monkeypatch.setattr(socket.socket, "connect", refuse)
    yield
