"""What a failed property test leaves behind: a command that fails in the same way, ready to paste.

    ---------- reproduce ----------
    # test_an_attack_stays_in_the_ball_and_the_box(recipe=..., seed=0, eps=Fraction(1, 255))
    python -m pytest -n 0 'suites/test_invariants.py::test_an_attack_stays...[pgd-linf]' --falsified '6.170.15:AEMBEXAA'

Loaded by the suites' plug-in. The part after --falsified is hypothesis' own record of the example.
"""

import re
import shlex
from collections.abc import Generator, Iterator
from typing import Any

import pytest

BLOB = re.compile(r"reproduce_failure\('([^']+)', b'([^']+)'\)")
CALL = re.compile(
    r"^\w[\w ]*: (\w+\(.*\))\s*$", re.DOTALL
)  # "Falsifying example: test_x(...)", in older words and newer


def pytest_addoption(parser: pytest.Parser) -> None:
    """The option that a printed command carries."""
    parser.getgroup("gauntlet").addoption(
        "--falsified", metavar="VERSION:EXAMPLE", help="run property tests on this one example, as a failure printed it"
    )


def notes(error: BaseException | None) -> Iterator[str]:
    """What hypothesis wrote beside an exception, and beside each of a group."""
    if error is None:
        return
    yield from getattr(error, "__notes__", ())
    for part in getattr(error, "exceptions", ()):
        yield from notes(part)


def snippets(item: pytest.Item, error: BaseException) -> Iterator[str]:
    """For each example that failed, its call as a comment and the command that runs it again."""
    call = ""
    for note in notes(error):
        if found := CALL.match(note.strip()):
            lines = [line.partition("  #")[0].strip() for line in found[1].splitlines()]
            call = "".join(f"{line} " if line.endswith(",") else line for line in lines).replace(", )", ")")
        if blob := BLOB.search(note):  # hypothesis writes none beside an example that it was given: nothing new to say
            command = ["python", "-m", "pytest", "-n", "0", item.nodeid, "--falsified", f"{blob[1]}:{blob[2]}"]
            yield f"# {call}\n{shlex.join(command)}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Adds the section `reproduce` to the report of a failed property."""
    report = yield
    if call.when == "call" and call.excinfo is not None and (made := list(snippets(item, call.excinfo.value))):
        report.sections.append(("reproduce", f"in {item.config.rootpath}:\n" + "\n".join(made)))
    return report


def pytest_runtest_setup(item: pytest.Item) -> None:
    """With --falsified, a property test runs on the given example alone."""
    given = item.config.getoption("--falsified")
    function: Any = getattr(item, "obj", None)
    if given is None or not getattr(function, "is_hypothesis_test", False):
        return
    from hypothesis import reproduce_failure

    version, _, example = given.partition(":")
    reproduce_failure(version, example.encode())(function)
