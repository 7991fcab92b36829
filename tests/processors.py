"""`python -m tests.processors`: the numeric tests and the fast tier's cells, under each of this processor's kernels.

Torch and oneDNN choose their kernels by instruction set, and each sums in another order. Under each set that this
processor has, but for its own, with which `make fast` runs, this runs every cell of the fast tier on its first samples,
and under the oldest (with `--all-tests` under each) the tests that compute. It compares each outcome bit with the
frozen one: `0 of 960 outcome bits of 100 cells moved under avx2`. A moved bit is always printed, with the margin by
which the sample is right or wrong now (true logit minus the best other, as a share of the logits' range). A defence
that couples the samples of a batch is compared on whole batches, of the cheap protocols.

Exit status: 0 where all tests pass and every moved bit is a near-tie (a margin below `NEAR`): there the frozen bit
itself stands on rounding, and nobody's code is wrong. 1 where a test fails, where a bit moved by more, or where no cell
could be compared.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from vlm_gauntlet.fixtures.draws import Draws
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.fixtures.protocols import NO_ATTACK
from vlm_gauntlet.fixtures.records import Outcome
from vlm_gauntlet.methods.base import Defence
from vlm_gauntlet.suites.journal import Journal
from vlm_gauntlet.suites.mini_claims import MiniClaim, mini_claims
from vlm_gauntlet.suites.scoring import Answers, InProcess

NEAR = 0.01
CHEAP = ("clean", "fgsm-white-box-linf-16-255")  # of a defence that couples its batch, run on whole batches
FOLDERS = ("tests/attacks", "tests/methods", "tests/fixtures", "tests/suites")
PLAIN = (
    "apart",
    "archive",
    "commands_told",
    "confined",
    "described",
    "dummies",
    "faults",
    "falsified",
    "gpus",
    "hostile_folders",
    "keys",
    "late_outcomes",
    "migration",
    "night",
    "offline_night",
    "planned_budget",
    "planned_questions",
    "plugin",
    "record_folder",
    "runnable",
    "seeds",
    "shards_and_merge",
    "stale",
    "stale_outcomes",
    "synced",
    "tiers",
    "versions",
)
"""Files of `tests/suites` about processes, records and files: no kernel changes what they find."""
SETS = {
    "default": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"},
    "avx2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"},
}


OLDEST = "default"  # farthest from any processor of today


@dataclass(frozen=True)
class Moved:
    """One bit that is not the frozen one: in how many draws the clean or the attacked image of a sample is right."""

    outcome: Outcome
    place: int
    kind: str
    frozen: int
    now: int


def moved_bits(frozen: MiniClaim, outcome: Outcome) -> list[Moved]:
    """The bits of an outcome that differ from the frozen ones of the same first samples."""
    now = MiniClaim.of(outcome)
    return [
        Moved(outcome, place, kind, int(before), int(after))
        for kind in ("clean", "attacked")
        for place, (before, after) in enumerate(zip(getattr(frozen, kind), getattr(now, kind), strict=False))
        if before != after
    ]


def in_part(outcome: Outcome) -> bool:
    """Whether a defence that couples the samples of a batch met a smaller batch than the frozen outcome's."""
    return outcome.n < (outcome.cell.batch_size or 0)


def compare(outcomes: list[Outcome], frozen: tuple[MiniClaim, ...]) -> tuple[int, list[Moved], list[str]]:
    """Outcomes against frozen ones -> number of bits compared, those that moved, cells that nothing is frozen of."""
    known = {r.setting: r for r in frozen}
    bits, moved, strange = 0, [], []
    for outcome in outcomes:
        if in_part(outcome):
            continue
        one = known.get(MiniClaim.of(outcome).setting)
        if one is None:
            strange.append(outcome.cell.id)
            continue
        bits += 2 * min(outcome.n, len(one.clean))
        moved += moved_bits(one, outcome)
    return bits, moved, strange


def margins(logits: Tensor, label: int) -> Tensor:
    """True logit minus the best other [draws], as a share of the logits' range, of logits [draws, K]."""
    others = logits.clone()
    others[:, label] = -torch.inf
    return (logits[:, label] - others.amax(1)) / (logits.amax(1) - logits.amin(1)).clamp_min(1e-6)


class Recording(InProcess):
    """A scorer that keeps the logits of each call it makes, by question."""

    def __init__(self, defence: Defence) -> None:
        super().__init__(defence)
        object.__setattr__(self, "asked", [])

    def score(self, images: Tensor, prompts: PromptSet, keys: Sequence[int], calls: Sequence[int]) -> Answers:
        """See Scorer."""
        with torch.no_grad():
            logits = [self.defence(images, prompts, draws=Draws(tuple(keys), call)) for call in calls]
        self.asked.append(logits)
        return super().score(images, prompts, keys, calls)

    asked: list[list[Tensor]]


def margins_of(bit: Moved) -> Tensor:
    """The margins of the scoring draws, of a sample attacked again with this process's kernels.

    Alone, or in its whole batch where the defence couples that.
    """
    from vlm_gauntlet.suites.batch import run_batch
    from vlm_gauntlet.suites.cells import plan

    cell, sample = bit.outcome.cell, bit.outcome.samples[bit.place]
    size = cell.batch_size or 1
    (made,) = plan([cell.method], cell.backbone, [cell.dataset], [cell.protocol.id], limit=bit.outcome.n)
    evaluation = made.load().evaluation
    scorer = Recording(evaluation.defence)
    run_batch(evaluation, next(islice(replace(made, batch_size=size).batches(), bit.place // size, None)), scorer)
    question = scorer.asked[0 if bit.kind == "attacked" or made.protocol.attack.name == NO_ATTACK else 1]
    scored = torch.stack([logits[bit.place % size] for logits in question[: bit.outcome.draws]])
    return margins(scored, sample.label)


def report(folder: Path, name: str) -> int:
    """Prints what moved; number of bits that moved by more than a near-tie, or 1 where nothing could be compared."""
    outcomes = Journal(folder).outcomes()
    bits, moved, strange = compare(outcomes, mini_claims())
    whole = sum(not in_part(outcome) for outcome in outcomes)
    print(f"{len(moved)} of {bits} outcome bits of {whole} cells moved under {name}", flush=True)
    if left := sorted({o.cell.method for o in outcomes if in_part(o)}):
        print(f"  {', '.join(left)} couples the samples of a batch: compared are whole ones, of {', '.join(CHEAP)}")
    if strange:
        print(f"  {len(strange)} cells have no frozen outcome of this setting, such as {strange[0]}")
    far = 0
    for bit in moved:
        margin = float(margins_of(bit).abs().min())
        far += margin > NEAR
        verdict = "a near-tie" if margin <= NEAR else "NO near-tie"
        sample = bit.outcome.samples[bit.place].id
        print(f"  {bit.outcome.cell.id} {sample} {bit.kind}: {bit.frozen} -> {bit.now}, margin {margin:.2g}: {verdict}")
    return far or int(bits == 0)


def run(command: list[str], environment: dict[str, str]) -> int:
    """A command of this interpreter's, in the repository's root."""
    root = Path(__file__).parents[1]
    path = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH", "")]))
    whole = {**os.environ, **environment, "PYTHONPATH": path}
    return subprocess.run([sys.executable, "-m", *command], cwd=root, env=whole, check=False).returncode


def capability() -> str:
    """What torch computes with in a process with this environment."""
    return torch.backends.cpu.get_cpu_capability().lower()


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.processors", description="Does another processor agree?")
    parser.add_argument("--limit", type=int, default=4, help="samples of each cell (default: 4, of the tier's 24)")
    parser.add_argument(
        "--only", choices=SETS, action="append", help="instruction set; repeatable (default: all but its own)"
    )
    parser.add_argument("--cells-only", action="store_true", help="leave out the tests")
    parser.add_argument("--all-tests", action="store_true", help="run the tests under each set, not under the oldest")
    parser.add_argument("--report", nargs=2, metavar=("DIR", "SET"), help=argparse.SUPPRESS)  # in a process of that set
    asked = parser.parse_args()
    if asked.report:
        if capability() != asked.report[1]:
            print(f"not run under {asked.report[1]}: this processor has {capability()}")
            return 0
        return min(1, report(Path(asked.report[0]), asked.report[1]))
    print(f"this processor's own instruction set: {capability()}", flush=True)
    wrong = 0
    for name in asked.only or [other for other in SETS if other != capability()]:
        with tempfile.TemporaryDirectory(prefix="processors-") as folder:
            print(f"== {name}: {' '.join(f'{k}={v}' for k, v in SETS[name].items())}", flush=True)
            if not asked.cells_only and (asked.all_tests or name == OLDEST):
                plain = [f"--ignore=tests/suites/test_{part}.py" for part in PLAIN]
                wrong += run(["pytest", *FOLDERS, *plain, "-q", "--tb=short"], SETS[name]) != 0
            cells = ["pytest", "suites/test_matrix.py", "-m", "fast", "--limit", str(asked.limit), "--outcomes", folder]
            wrong += run([*cells, "-q", "--tb=short"], SETS[name]) != 0
            coupled = [o.cell.id for o in Journal(Path(folder)).outcomes() if in_part(o)]
            nodes = [f"suites/test_matrix.py::test_cell[fast-{i}]" for i in coupled if i.endswith(CHEAP)]
            if nodes:
                wrong += run(["pytest", *nodes, "--outcomes", folder, "-q", "--tb=short"], SETS[name]) != 0
            wrong += run(["tests.processors", "--report", folder, name], SETS[name])
    return min(1, wrong)


if __name__ == "__main__":
    sys.exit(main())
