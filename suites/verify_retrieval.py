"""Verifying a retrieval outcome: all of it is attacked and ranked again, since each rank counts among all answers."""

import secrets
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from vlm_gauntlet.fixtures.datasets import dataset
from vlm_gauntlet.fixtures.device import device_name
from vlm_gauntlet.fixtures.errors import GauntletError
from vlm_gauntlet.fixtures.parts import ANYTHING, raised
from vlm_gauntlet.methods.late_files import moved

from .known_here import KnownHere
from .plausible_retrieval import retrieval_doubts
from .retrieval import Setting, cell_of, run_retrieval
from .retrieval_records import RetrievalCell, RetrievalOutcome
from .verification_records import Difference, Verification
from .verify import CannotVerifyError, cannot, impossible
from .versions import versions_here


def verify_retrieval(
    outcome: RetrievalOutcome, here: KnownHere, *, device: str = "cpu", by: str = "unknown"
) -> Verification:
    """Recomputes a retrieval outcome and compares every rank.

    Args:
        outcome: what somebody says came out.
        here: methods that count as known.
        device: where to compute.
        by: who verifies.

    Raises:
        CannotVerifyError: method, weights, data, words or code of the outcome are not those of this machine.
    """
    cell = outcome.cell
    if (chosen := here.method(cell.method)) is None:
        raise cannot(f"method {cell.method!r} is not known here", "give its file: --method path/to/file.py:Class")
    setting = Setting(
        chosen.name, cell.backbone, cell.dataset, cell.attack, cell.eps, cell.text, cell.limit, cell.seed, device,
        outcome.provenance.batch_size,
    )  # fmt: skip
    try:
        _check_same(cell, cell_of(setting))
        if files := moved(outcome.provenance.files):
            raise cannot(
                f"it was made with another {', another '.join(files)}", "restore the files that it was made with"
            )
        with TemporaryDirectory() as folder:
            again = run_retrieval(setting, Path(folder))
        chosen_ids = tuple(example.id for example in dataset(cell.dataset).chosen(cell.limit))
    except CannotVerifyError:
        raise
    except GauntletError as error:
        raise cannot(f"it does not run: {error.short}", error.fix) from error
    except ANYTHING as error:
        raise cannot(raised("method", error, cell.method).came, "look at the method's code") from error
    return Verification(
        by=by, made=datetime.now(UTC).replace(microsecond=0), seed=secrets.randbits(63), chosen=chosen_ids,
        of=len(chosen_ids), bits_digest=outcome.bits_digest, code_digest=cell.code_digest,
        differences=(*impossible(retrieval_doubts(outcome, here)), *_differences(outcome, again)),
        method_digest=cell.method_digest, device=device_name(device), versions=dict(versions_here()),
    )  # fmt: skip


def _check_same(theirs: RetrievalCell, ours: RetrievalCell) -> None:
    if others := [name for name, value in ours if value != getattr(theirs, name)]:
        raise cannot(f"it was made with another {', another '.join(others)}", "check out the code that made it")


def _differences(theirs: RetrievalOutcome, ours: RetrievalOutcome) -> Iterator[Difference]:
    """Each rank that came out otherwise; queries are numbered as they lie in the outcome, from 0."""
    for way, query in (("image_to_text", "image"), ("text_to_image", "caption")):
        old, new = getattr(theirs, way), getattr(ours, way)
        for side in ("clean", "attacked"):
            before, after = getattr(old, side), getattr(new, side)
            if len(before) != len(after):
                yield _told("", f"{way} {side}", f"{len(before)} ranks", f"{len(after)} ranks")
                continue
            for i, (one, other) in enumerate(zip(before, after, strict=True)):
                if one != other:
                    yield _told(f"{query} {i}", f"{way} {side}", str(one), str(other))
    if theirs.captions_changed != ours.captions_changed:
        yield _told("", "captions_changed", str(theirs.captions_changed), str(ours.captions_changed))


def _told(sample: str, field: str, recorded: str, recomputed: str) -> Difference:
    return Difference(sample=sample, field=field, recorded=recorded, recomputed=recomputed)
