"""`gauntlet verify`: computes samples of an outcome again that somebody hands in, and says whether they come out."""

import json
from contextlib import suppress
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .console import table
from .device import Device

if TYPE_CHECKING:
    from vlm_gauntlet.fixtures.records import Outcome
    from vlm_gauntlet.suites.verification_records import Verification


def verify(
    outcome: Annotated[Path, typer.Argument(help="an outcome file, of a classification or of retrieval")],
    samples: Annotated[int, typer.Option(min=1, help="how many to recompute; all: the indicators, too")] = 8,
    seed: Annotated[
        int | None, typer.Option(min=0, help="what they are chosen by; default: one that nobody can prepare for")
    ] = None,
    method: Annotated[
        list[str] | None, typer.Option(help="a method from outside, module:Class or file.py:Class; repeatable")
    ] = None,
    protocol: Annotated[list[str] | None, typer.Option(help="a protocol file from outside; repeatable")] = None,
    by: Annotated[str, typer.Option(help="who verifies, for the record")] = "unknown",
    recompute: Annotated[bool, typer.Option("--recompute", help="attack again also where images are archived")] = False,
    record: Annotated[bool, typer.Option(help="write <key>.verified.json beside the outcome")] = True,
    device: Device = "cpu",
) -> None:
    """Attacks and scores samples of an outcome again, and compares bit by bit.

    Says `verified k of n` (exit 0), `differs` and where (exit 1), or `cannot verify here` and why (exit 2).
    A file that was made by other code, or for a method or data that are not here, can be neither confirmed nor refuted.

    Where the run kept its attacked images (`gauntlet run --archive`), they are compared with the clean ones and scored,
    `verified k of n from the archive`; that the protocol's attack made them shows only --recompute.
    Of retrieval everything is recomputed, since a rank counts among all answers.

    Examples:

      gauntlet verify outcomes/0123456789abcdef0123456789abcdef.json

      gauntlet verify theirs.json --samples 64 --by "board, night of 3 May" --method theirs.py:Theirs
    """
    from vlm_gauntlet.suites.archive import Archive
    from vlm_gauntlet.suites.journal import Journal
    from vlm_gauntlet.suites.known_here import KnownHere
    from vlm_gauntlet.suites.retrieval_records import RetrievalJournal
    from vlm_gauntlet.suites.verification_records import add
    from vlm_gauntlet.suites.verify import verify as verified
    from vlm_gauntlet.suites.verify_retrieval import verify_retrieval

    here = KnownHere(method or (), protocol or ())
    if _is_retrieval(outcome):
        retrieved = RetrievalJournal(outcome.parent).read(outcome)
        key, made = retrieved.key, verify_retrieval(retrieved, here, device=device, by=by)
        typer.echo(f"{retrieved.cell.id}: {made.words}")
        _differences(made)
    else:
        read = Journal(outcome.parent).read(outcome)
        kept = None if recompute else Archive(outcome.parent).read(read)
        key, made = read.key, verified(read, here, samples=samples, seed=seed, device=device, by=by, kept=kept)
        _report(read, made)
    if record:
        typer.echo(f"recorded in {add(outcome.parent, key, made)}")
    if made.differences:
        raise typer.Exit(1)


def _is_retrieval(path: Path) -> bool:
    """By its content: whoever hands in a file chooses its name and its folder."""
    from vlm_gauntlet.fixtures.files import read_plain

    with suppress(OSError, ValueError, RecursionError):
        found = json.loads(read_plain(path))
        return isinstance(found, dict) and "image_to_text" in found
    return False


def _differences(made: "Verification") -> None:
    if made.differences:
        lines = [(d.sample or "(outcome)", d.field, d.recorded, d.recomputed) for d in made.differences]
        table(lines, ("sample", "what", "recorded", "recomputed"))


def _report(outcome: "Outcome", made: "Verification") -> None:
    from vlm_gauntlet.suites.verify import escape_probability

    typer.echo(f"{outcome.cell.id}: {made.words} (chosen by seed {made.seed})")
    _differences(made)
    if not made.differences and (k := len(made.chosen)) < outcome.n:
        changed = ceil(outcome.n / 10)
        missed = escape_probability(outcome.n, k, changed)
        share = f"{100 * missed:.0f} % of such looks"
        typer.echo(f"had {changed} of {outcome.n} samples been changed, {share} would have missed it")
