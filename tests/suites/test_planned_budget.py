"""What a budget buys never costs more than it, and a larger one buys all that a smaller one does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_gauntlet.suites.planning.budget import Choice, Question, choose
from vlm_gauntlet.suites.planning.schedule import schedule

CELLS = [f"cell {i}" for i in range(8)]
TIMES = st.fixed_dictionaries({c: st.floats(0, 50) for c in CELLS[:7]})  # the last cell's is not known
QUESTIONS = st.lists(
    st.tuples(st.frozensets(st.sampled_from(CELLS), min_size=1, max_size=4), st.sampled_from([0.5, 1.0, 3.0])),
    max_size=9,
).map(lambda found: [Question(f"q{i}", "claim", cells, value) for i, (cells, value) in enumerate(found)])


@given(QUESTIONS, TIMES, st.floats(0, 200), st.floats(0, 200))
def test_a_budget_is_never_exceeded_and_never_regretted(
    questions: list[Question], seconds: dict[str, float], one: float, other: float
) -> None:
    small, large = (choose(questions, seconds, b) for b in sorted((one, other)))
    for choice, budget in ((small, min(one, other)), (large, max(one, other))):
        assert sum(seconds[c] for c in choice.cells) == pytest.approx(choice.seconds)
        assert choice.seconds <= budget
        answered = {q.name for q in questions if q.cells <= set(choice.cells)}
        assert set(choice.settled) <= answered
        assert {*choice.settled, *choice.left} == {q.name for q in questions} and not {*choice.settled} & {*choice.left}
    assert small.cells == large.cells[: len(small.cells)] and set(small.settled) <= set(large.settled)


@given(QUESTIONS, TIMES)
def test_with_time_enough_everything_that_can_run_is_settled(
    questions: list[Question], seconds: dict[str, float]
) -> None:
    choice = choose(questions, seconds, 1e9)
    assert set(choice.settled) == {q.name for q in questions if q.cells <= seconds.keys()}
    assert choice.next is None


def chosen(questions: list[Question], seconds: dict[str, float], budget: float) -> Choice:
    return choose(questions, seconds, budget)


def test_the_most_value_for_an_hour_comes_first() -> None:
    dear, cheap = Question("dear", "row", frozenset("a")), Question("cheap", "row", frozenset("b"))
    worth = [Question(f"claim {i}", "claim", frozenset("c")) for i in range(3)]
    found = chosen([dear, cheap, *worth], {"a": 10.0, "b": 4.0, "c": 6.0}, 10.0)
    assert found.cells == ("c", "b") and found.settled == ("claim 0", "claim 1", "claim 2", "cheap")
    assert found.next == 10.0


def test_what_is_shared_is_paid_once() -> None:
    both = [Question("x", "row", frozenset("ab")), Question("y", "row", frozenset("bc"))]
    found = chosen(both, {"a": 1.0, "b": 5.0, "c": 2.0}, 8.0)
    assert found.settled == ("x", "y") and found.seconds == 8.0


def test_what_is_finished_costs_nothing() -> None:
    assert chosen([Question("x", "row", frozenset("a"))], {"a": 0.0}, 0.0).settled == ("x",)


@given(st.dictionaries(st.text("abcdef", min_size=1, max_size=3), st.floats(0.1, 100), max_size=12), st.integers(1, 5))
def test_every_job_runs_once_and_no_schedule_is_far_from_the_best(jobs: dict[str, float], machines: int) -> None:
    found = schedule(jobs, machines)
    assert sorted(name for own in found.machines for name in own) == sorted(jobs)
    assert sum(found.seconds) == pytest.approx(sum(jobs.values()))
    least = max([*jobs.values(), sum(jobs.values()) / machines, 0.0])
    assert least * 0.999 <= found.makespan <= least * (2 - 1 / machines) + 1e-6
    again = schedule(dict(reversed(jobs.items())), machines)
    assert again == found


def test_the_longest_goes_first() -> None:
    found = schedule({"a": 3.0, "b": 3.0, "c": 2.0, "d": 2.0, "e": 2.0}, 2)
    assert found.machines == (("a", "c", "e"), ("b", "d")) and found.makespan == 7.0
    assert found.cost(3600.0) == pytest.approx(12.0)
