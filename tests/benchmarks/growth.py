"""How a run grows: processor time and memory of the command at several numbers of samples, and of cells."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass

from .paired import Row

PROTOCOLS = (
    "fgsm-white-box-linf-16-255", "pgd-10-white-box-linf-16-255", "pgd-10-transfer-linf-16-255", "pgd-10-l2-white-box",
    "bim-10-white-box-linf-16-255", "mi-fgsm-10-white-box-linf-16-255", "pgd-2-white-box-linf-16-255",
    "pgd-5-white-box-linf-16-255",
)  # fmt: skip
METHODS = ("undefended", "tecoa", "jpeg", "bit_depth")


@dataclass(frozen=True)
class Spent:
    """What a command took.

    Args:
        cpu: seconds of the processor, of the process and those that it started.
        memory: of the largest of these processes, in MB.
    """

    cpu: float
    memory: float


def spent(methods: Sequence[str], protocols: Sequence[str], limit: int) -> Spent:
    """One run of the command in an empty folder of outcomes."""
    with tempfile.TemporaryDirectory() as folder:
        asked = [
            "--backbone",
            "miniclip-vit",
            "--dataset",
            "fashion_mnist",
            "--limit",
            str(limit),
            "--batch-size",
            "24",
        ]
        for name in methods:
            asked += ["--method", name]
        for name in protocols:
            asked += ["--protocol", name]
        started = subprocess.Popen(
            [sys.executable, "-m", "vlm_gauntlet.cli", "run", *asked, "--outcomes", folder],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        told = started.stderr.read().decode() if started.stderr else ""
        _, status, usage = os.wait4(started.pid, 0)
        started.returncode = os.waitstatus_to_exitcode(status)
        if started.returncode:
            raise RuntimeError(f"the run ended with {started.returncode}: {told[-500:]}")
    return Spent(usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def steps(what: str, sizes: Sequence[int], found: Sequence[Spent]) -> list[Row]:
    """Two lines for three sizes or more: cost of each further piece late by that early, and memory late by early."""
    early, late = ((found[at + 1].cpu - found[at].cpu) / (sizes[at + 1] - sizes[at]) for at in (0, len(sizes) - 2))
    names = " ".join(map(str, sizes))
    return [
        Row("growth", f"a further {what} ({names})", "the first ones", "ms", 1000 * late, 1000 * early, late / early,
            target="about 1", note="CPU s " + " ".join(f"{s.cpu:.1f}" for s in found)),
        Row("growth", f"memory over {what}s ({names})", "the first ones", "MB", found[-1].memory, found[0].memory,
            found[-1].memory / found[0].memory, target="about 1"),
    ]  # fmt: skip


def rows(samples: Sequence[int], cells: Sequence[int], *, limit: int) -> list[Row]:
    """Growth with samples in one cell, and with cells of so many samples; three sizes or more of each."""
    by_samples = [spent(METHODS[:1], PROTOCOLS[:1], count) for count in samples]
    by_cells = [spent(METHODS[:1], PROTOCOLS[:count], limit) for count in cells]
    return [*steps("sample", samples, by_samples), *steps("cell", cells, by_cells)]
