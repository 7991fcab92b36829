"""A process of its own tells what it found, what went wrong, and that it ended; it takes no more than it may."""

import os
import signal
import sys
import time
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from vlm_gauntlet.fixtures.errors import ContractError, GauntletError, UnavailableError
from vlm_gauntlet.suites.apart import Apart, Limits


class Rude:
    """Does what a defence may not."""

    def __init__(self, start: str = "") -> None:
        self.count = 0
        if start:
            getattr(self, start)()

    def add(self, values: Tensor) -> tuple[Tensor, int]:
        self.count += 1
        return values + 1, self.count

    def leave(self) -> None:
        sys.exit(0)

    def vanish(self) -> None:
        os._exit(0)

    def hang(self) -> None:
        time.sleep(600)

    def eat(self) -> int:
        return len(bytearray(8 * 2**30))

    def end_the_server(self) -> None:
        os.kill(os.getppid(), signal.SIGKILL)

    def refuse(self) -> None:
        raise ContractError("this", expected="that", where="there", fix="mend it")

    def lack(self) -> None:
        raise UnavailableError("no weights", expected="weights", where="there", fix="fetch them")

    def break_down(self) -> None:
        raise RuntimeError("no such thing")

    def speak(self) -> object:
        return Rude  # code, which is not read


def test_it_answers_and_keeps_its_state() -> None:
    with Apart(Rude, what="a test") as other:
        for number in (1, 2):
            values, count = other.ask("add", torch.tensor([1.0, 2.0]))
            assert values.tolist() == [2.0, 3.0] and count == number


@pytest.mark.parametrize(
    ("what", "kind", "said"),
    [
        ("leave", GauntletError, "SystemExit: 0"),
        ("vanish", GauntletError, "ended without a report, with exit code 0"),
        ("hang", GauntletError, "no answer within 5 s"),
        ("eat", GauntletError, "Memory"),
        ("refuse", ContractError, "this"),
        ("lack", UnavailableError, "no weights"),
        ("break_down", GauntletError, "RuntimeError: no such thing"),
        ("speak", GauntletError, "cannot be read"),
    ],
)
@pytest.mark.parametrize("at_start", [False, True])
def test_whatever_goes_wrong_is_one_error(what: str, kind: type[GauntletError], said: str, at_start: bool) -> None:
    if at_start and what in ("speak", "hang"):
        pytest.skip("nothing is told at the start")
    limits = Limits(seconds=5, memory=2 * 2**30)
    with (
        pytest.raises(kind) as caught,
        Apart(Rude, *([what] if at_start else []), what="a test", limits=limits) as other,
    ):
        other.ask(what)
    assert said in str(caught.value) and type(caught.value) is kind


def test_who_kills_what_started_it_stops_nobody_else() -> None:
    with Apart(Rude, "end_the_server", what="a test") as other:
        assert other.ask("add", torch.tensor([1.0]))[1] == 1
    with Apart(Rude, what="a test") as other:
        assert other.ask("add", torch.tensor([1.0]))[1] == 1


def test_nothing_of_the_caller_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "LEFT", "here", raising=False)
    monkeypatch.setenv("GAUNTLET_TEST", "told")
    with Apart(_seen, what="a test") as other:
        left, told, main = other.ask("__call__")
    assert (left, told) == ("nothing", "told") and main == "__main__"


def _seen() -> Callable[[], tuple[str, str, str]]:
    here = sys.modules[__name__]
    main = getattr(sys.modules["__main__"], "__name__", "")
    return lambda: (getattr(here, "LEFT", "nothing"), os.environ.get("GAUNTLET_TEST", ""), str(main))
