"""Work in a process of its own: fresh module state, limits of time and memory, and no report is a failure.

Processes are forked from a server that has imported the house and run nothing, so that one costs a third of a second.
What comes back is JSON and safetensors: plain values and tensors, no code.
"""

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from types import ModuleType, TracebackType
from typing import Any, Self

import torch
from safetensors.torch import load, save
from torch import Tensor

from vlm_gauntlet.fixtures.errors import ContractError, GauntletError, UnavailableError
from vlm_gauntlet.fixtures.parts import failure

from .confined import write_no_files

DEAD = 1.0  # seconds in which a killed process is gone
PRELOADED = ("vlm_gauntlet.suites.preloaded",)
TENSOR = "__tensor__"
ERRORS = {kind.__name__: kind for kind in (GauntletError, ContractError, UnavailableError)}


@dataclass(frozen=True)
class Limits:
    """What a process may take.

    Args:
        seconds: for one answer; None: as long as it takes.
        memory: bytes of memory beyond what it has at its start, on a CPU; None: as much as there is.
        files: whether it may write files once its object was made. What lies on a disk outlives the process.
    """

    seconds: float | None = None
    memory: int | None = None
    files: bool = True


class Apart:
    """An object that lives in a process of its own and is asked by name. Use it in a `with`.

    Args:
        make: an importable callable that makes the object there.
        arguments: for it; they must pickle.
        what: what runs there, for errors.
        limits: of each answer.
    """

    def __init__(
        self, make: Callable[..., object], *arguments: object, what: str, limits: Limits | None = None
    ) -> None:
        self.what, self.limits = what, limits or Limits()
        ours, theirs = _context().Pipe()
        state = (dict(os.environ), [*sys.path], os.getcwd(), torch.get_num_threads(), self.limits)
        for last in (False, True):
            self._process = _context().Process(target=_serve, args=(theirs, state, make, arguments), daemon=True)
            try:
                with _no_main_module():
                    self._process.start()
                break
            except ConnectionError:  # the server was killed, and is only found dead at the next look
                if last:
                    raise
                time.sleep(DEAD)
        theirs.close()
        self._connection: Connection[Any, Any] = ours
        self._wait_for_start()
        self._answer()  # that it was made

    def ask(self, name: str, *arguments: object) -> Any:
        """The answer of a method of the object; of its sequences lists.

        Raises:
            GauntletError: what the method raised; that the process ended, or took longer than it may. Whatever it was,
                the process is then gone.
        """
        try:
            self._connection.send((name, arguments))
        except OSError:
            raise self._lost() from None
        return self._answer()

    def _wait_for_start(self) -> None:
        """Until the house's own code is there, which no limit counts: on a busy machine it may take long."""
        try:
            self._connection.recv_bytes()
        except (EOFError, OSError):
            raise self._lost() from None

    def _answer(self) -> Any:
        if not self._connection.poll(self.limits.seconds):
            self.close()
            raise GauntletError(
                f"{self.what}: no answer within {self.limits.seconds:g} s", expected="an answer in time",
                where=self.what, fix="look for a loop that never ends, or raise the limit",
            )  # fmt: skip
        try:
            told, tensors = self._connection.recv_bytes(), self._connection.recv_bytes()
        except (EOFError, OSError):
            raise self._lost() from None
        try:
            kind, found = json.loads(told)
            found = _joined(found, load(tensors))
            error = ERRORS[kind](**found) if kind else None
        except Exception as unread:
            self.close()
            raise GauntletError(
                f"{self.what}: an answer that cannot be read ({type(unread).__name__})", expected="tensors",
                where=self.what, fix="a defence may not write to the pipe that its process answers by",
            ) from unread  # fmt: skip
        if error is not None:
            self.close()
            raise error
        return found

    def _lost(self) -> GauntletError:
        self._process.join(5)
        code = self._process.exitcode
        self.close()
        how = f"killed by signal {-code}" if code is not None and code < 0 else f"with exit code {code}"
        return GauntletError(
            f"{self.what}: the process ended without a report, {how}", expected="a defence that answers",
            where=self.what, fix="a defence may not end the process; killed: it may want more memory than there is",
        )  # fmt: skip

    def close(self) -> None:
        """Ends the process."""
        self._connection.close()
        if self._process.is_alive():
            self._process.kill()
        self._process.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


@cache
def _context() -> ForkServerContext:
    context = get_context("forkserver")
    context.set_forkserver_preload([*PRELOADED])
    return context


@contextmanager
def _no_main_module() -> Iterator[None]:
    """A new process would import the running script again, pytest's included, which it has no use for."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _serve(
    connection: "Connection[Any, Any]",
    state: tuple[Mapping[str, str], list[str], str, int, Limits],
    make: Callable[..., object],
    arguments: tuple[object, ...],
) -> None:
    """Makes the object and answers until nobody asks any more."""
    environment, path, folder, threads, limits = state
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:] = path
    os.chdir(folder)
    torch.set_num_threads(threads)
    if limits.memory is not None:
        _limit(limits.memory)
    connection.send_bytes(b"started")
    made, failed = _tried(make, arguments)
    if not limits.files:
        write_no_files()
    _tell(connection, failed, None)
    while not failed:
        try:
            name, given = connection.recv()
        except (EOFError, OSError):
            return
        found, wrong = _tried(getattr(made, name), given)
        _tell(connection, wrong, found)


def _limit(memory: int) -> None:
    """No more data than it has now, and so many bytes."""
    with open("/proc/self/status") as status:
        used = next(int(line.split()[1]) for line in status if line.startswith("VmData:")) * 1024
    resource.setrlimit(resource.RLIMIT_DATA, (used + memory, used + memory))


def _tell(connection: "Connection[Any, Any]", error: GauntletError | None, found: object) -> None:
    """Sends what was found: JSON, in which a tensor is its number, and the tensors."""
    if error is not None:
        found = {"came": error.came, "expected": error.expected, "where": error.where, "fix": error.fix}
    tensors: dict[str, Tensor] = {}

    def numbered(value: object) -> object:
        if isinstance(value, Tensor):
            tensors[str(len(tensors))] = value.detach().cpu().contiguous()
            return {TENSOR: str(len(tensors) - 1)}
        if isinstance(value, Mapping):
            return {name: numbered(inner) for name, inner in value.items()}
        return [numbered(inner) for inner in value] if isinstance(value, (list, tuple)) else value

    try:
        told = json.dumps([type(error).__name__ if error else "", numbered(found)]).encode()
    except TypeError:  # no plain value: the reader says so
        told = b""
    connection.send_bytes(told)
    connection.send_bytes(save({name: tensor.clone() for name, tensor in tensors.items()}))


def _joined(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(value, dict):
        return tensors[value[TENSOR]] if TENSOR in value else {n: _joined(v, tensors) for n, v in value.items()}
    return [_joined(inner, tensors) for inner in value] if isinstance(value, list) else value


def _tried(call: Callable[..., object], arguments: tuple[object, ...]) -> tuple[Any, GauntletError | None]:
    """What it gave, or what went wrong. Even an exit is a failure that is told."""
    try:
        return call(*arguments), None
    except BaseException as error:  # SystemExit as well: the author's code may raise anything
        return None, failure(error)
