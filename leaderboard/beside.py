"""Two parts of a board at once, on two cores: a forked process sees what was gathered and writes files of its own."""

import multiprocessing
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

from vlm_gauntlet.fixtures.errors import GauntletError


@contextmanager
def beside(work: Callable[[], None], *, apart: bool) -> Iterator[None]:
    """Does some work while the body runs; leaves when both are done.

    Args:
        work: writes files that the body neither reads nor writes, and leaves nothing else behind.
        apart: in a process of its own, where the system can fork; else before the body.

    Raises:
        Exception: what the work raised; where the body raised, its own, and the work is stopped.
        GauntletError: the process died.
    """
    if not (apart and "fork" in multiprocessing.get_all_start_methods()):
        work()
        yield
        return
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_told, args=(work, there), daemon=True)
    process.start()
    there.close()
    try:
        yield
        try:
            error = here.recv()
        except EOFError:
            process.join()
            raise GauntletError(
                f"a process that wrote pages died: exit status {process.exitcode}", expected="it to write them all",
                where="gauntlet board", fix="look at the memory that is left, and build again; no page was changed",
            ) from None  # fmt: skip
        if error is not None:
            raise error
    finally:
        process.kill()
        process.join()
        here.close()


def _told(work: Callable[[], None], there: Connection) -> None:
    try:
        work()
    except Exception as error:
        there.send(error)
    else:
        there.send(None)
    finally:
        there.close()


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
