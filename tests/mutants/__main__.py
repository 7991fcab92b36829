"""`python -m tests.mutants`: plants each mutant in a copy of the tree, runs its tests, says which ones live.

Our own, since neither of the two known tools copes. mutmut 3.8 rewrites modules under the names that their paths have
(`attacks.balls`), while everything imports them as `vlm_gauntlet.attacks.balls` through links: it then finds no test
for any mutant. cosmic-ray 8.7 runs, but changes the checkout itself (a kill leaves the mutant in it), and makes 290
mutants of the 43 lines of `attacks/balls.py`, each a new process of several seconds: hours, where half an hour is
there.
Here a mutant is an entry of a list, with the nearest tests and, where it may live, the reason.

Exit status: 0 where every mutant was killed or has a reason to live; 1 where one lives without a reason, dies although
it has one, or is not where its entry says; 2 where the tests already fail without mutants.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import Queue

from .catalogue import BadMutant, Mutant, mutants
from .worker import FAILED, INTERRUPTED, PASSED, copy_tree, prepare, pytest

KILLED, LIVES, BROKEN = "killed", "lives", "broken"


@dataclass(frozen=True)
class Verdict:
    """What became of a mutant: `killed`, `lives`, or `broken` where its tests could not be run."""

    mutant: Mutant
    word: str
    said: str
    seconds: float

    @property
    def right(self) -> bool:
        """Whether it is as its entry says."""
        return self.word == (LIVES if self.mutant.survives else KILLED)


def judge(mutant: Mutant, tree: Path) -> Verdict:
    """Plants one mutant, runs its tests, takes it out again."""
    start, path = time.monotonic(), tree / mutant.file
    kept = path.read_text()
    path.write_text(mutant.applied(tree))
    try:
        status, output = pytest(tree, mutant.tests)
    finally:
        path.write_text(kept)
    word = {FAILED: KILLED, PASSED: LIVES}.get(status, BROKEN)
    if status == INTERRUPTED and "KeyboardInterrupt" in output:  # a kill that a test plays reached nobody
        word = KILLED
    failures = [line.removeprefix("FAILED ") for line in output.splitlines() if line.startswith("FAILED")]
    said = failures[0].partition(" - ")[0] if failures else ""
    if word == BROKEN:
        said = f"pytest ended with {status}: {' '.join(output.split())[-200:]}"
    return Verdict(mutant, word, said, time.monotonic() - start)


def run(chosen: Sequence[Mutant], jobs: int) -> list[Verdict]:
    """Judges mutants, several at a time, each in a copy of its own.

    Raises:
        BadMutant: see `Mutant.applied`.
        RuntimeError: the tests fail without any mutant.
    """
    for mutant in chosen:
        mutant.applied()
    prepare()
    with tempfile.TemporaryDirectory(prefix="mutants-") as place, ThreadPoolExecutor(jobs) as pool:
        trees: Queue[Path] = Queue()
        for number in range(jobs):
            copy_tree(Path(place) / str(number))
            trees.put(Path(place) / str(number))
        files = sorted({test for mutant in chosen for test in mutant.tests})

        def sound(part: Sequence[str]) -> tuple[int, str]:
            tree = trees.get()
            try:
                return pytest(tree, part, stop=False) if part else (PASSED, "")
            finally:
                trees.put(tree)

        for status, output in pool.map(sound, [files[number::jobs] for number in range(jobs)]):
            if status != PASSED:
                raise RuntimeError(f"the tests fail without a mutant:\n{output[-2000:]}")

        def one(mutant: Mutant) -> Verdict:
            tree = trees.get()
            try:
                verdict = judge(mutant, tree)
            finally:
                trees.put(tree)
            print(f"{verdict.word:8} {verdict.seconds:5.0f} s  {mutant.name}  {verdict.said}", flush=True)
            return verdict

        return list(pool.map(one, chosen))


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description="Are the tests able to fail?")
    parser.add_argument("-k", metavar="WORD", default="", help="only mutants whose name or file holds this")
    parser.add_argument("--jobs", type=int, default=2, help="mutants at a time (default: 2)")
    parser.add_argument(
        "--list", action="store_true", help="print them and check that each is where it says; run nothing"
    )
    asked = parser.parse_args()
    start = time.monotonic()
    try:
        chosen = [m for m in mutants() if asked.k in m.name or asked.k in m.file]
        if asked.list:
            for mutant in chosen:
                mutant.applied()
                print(f"{mutant.file:34} {mutant.name}{'  (may live)' if mutant.survives else ''}")
            return 0
        verdicts = run(chosen, asked.jobs)
    except BadMutant as error:
        print(error, file=sys.stderr)
        return 1
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 2
    dead, living = ([v for v in verdicts if v.word == word] for word in (KILLED, LIVES))
    print(f"\n{len(dead)} of {len(verdicts)} mutants killed, {len(living)} live, in {time.monotonic() - start:.0f} s")
    for verdict in living:
        print(f"  lives: {verdict.mutant.name}: {verdict.mutant.survives or 'NO REASON: write a test that notices it'}")
    for verdict in verdicts:
        if verdict.word == KILLED and verdict.mutant.survives:
            print(f"  killed, though its entry says why it lives; take the reason out: {verdict.mutant.name}")
        if verdict.word == BROKEN:
            print(f"  no verdict: {verdict.mutant.name}: {verdict.said}")
    return 0 if all(v.right for v in verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
