"""Copies of the tree, and tests that run in them: each run is a fork of one process that has torch imported already."""

import importlib
import multiprocessing
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from .catalogue import ROOT

LIMIT = 240  # seconds that the tests of one mutant may take; one that hangs is noticed
PASSED, FAILED, INTERRUPTED = 0, 1, 2  # pytest's exit statuses
FOREIGN = 70  # the copy did not import its own code
# What costs seconds to import and holds nothing of ours.
HEAVY = ["torch", "torchvision", "open_clip", "hypothesis", "pytest", "pydantic", "scipy.stats", "filelock", "ot",
         "statsmodels.stats.proportion", "statsmodels.stats.contingency_tables", "pyautoattack.autopgd_base",
         "torch._dynamo", "pyautoattack.fab_base", "pyautoattack.square"]  # fmt: skip

_context = multiprocessing.get_context("forkserver")


def prepare() -> None:
    """Says what the forks start from; before the first run."""
    os.environ |= {"OMP_NUM_THREADS": "1"}
    _context.set_forkserver_preload(HEAVY)  # one that is not installed is passed over


def copy_tree(target: Path) -> None:
    """Copies what git tracks or would track, links as links."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).exists():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name, follow_symlinks=False)


def pytest(tree: Path, tests: Sequence[str], *, stop: bool = True) -> tuple[int, str]:
    """Runs tests in a copy, up to the first failure or all -> exit status, what it printed."""
    output = tree / ".output"
    process = _context.Process(target=_child, args=(str(tree), [*tests, *(["-x"] if stop else [])], str(output)))
    process.start()
    process.join(LIMIT if stop else None)
    if process.exitcode is None:
        process.kill()
        process.join()
        return FAILED, f"FAILED more than {LIMIT} s"
    return process.exitcode, output.read_text(errors="replace")


def _child(tree: str, arguments: list[str], output: str) -> None:
    """In the fork: forgets the checkout, looks at the copy alone, runs pytest, leaves with its status."""
    handle = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    os.chdir(tree)
    sys.dont_write_bytecode = True  # stale byte code would hide a mutant of equal length made in the same second
    here = {"", str(ROOT), os.environ.get("PYTHONPATH", "")}
    sys.path[:] = [tree, *(p for p in sys.path if p not in here)]
    os.environ |= {"PYTHONPATH": tree, "PYTHONDONTWRITEBYTECODE": "1"}
    for name in [m for m in sys.modules if m.split(".")[0] in ("tests", "vlm_gauntlet")]:
        del sys.modules[name]
    importlib.invalidate_caches()
    import pytest as runner

    from vlm_gauntlet.attacks import balls

    foreign = not Path(balls.__file__).is_relative_to(tree)
    status = FOREIGN if foreign else int(runner.main(["-n", "0", "-q", "--tb=no", "-p", "no:randomly", *arguments]))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
