"""The drawing of a loss curve: one line a term, each phase where it was, the same bytes each time."""

import re
from pathlib import Path

import pytest

from vlm_gauntlet.training.curve import LossCurve
from vlm_gauntlet.training.loss_drawing import POINTS, _thinned, drawn_losses


def curve(path: Path, terms: tuple[str, ...], steps: int) -> Path:
    kept = LossCurve(path, terms)
    for phase in ("one", "two"):
        for step in range(steps):
            kept.add(phase, step, 0.1, {name: 1.0 / (1 + step) for name in terms if (phase, name) != ("two", "extra")})
    kept.close()
    return path


def lines_of(svg: bytes) -> int:
    return len(re.findall(rb'<g id="line2d_\d+">\s*<path d="M [^"]+L', svg))


def test_each_term_has_a_line_and_a_phase_its_border(tmp_path: Path) -> None:
    both = drawn_losses(curve(tmp_path / "a.loss.csv", ("plain", "extra"), 5))
    single = drawn_losses(curve(tmp_path / "b.loss.csv", ("plain",), 5))
    assert all(word in both for word in (b">plain<", b">extra<", b">loss<", b">a<")) and b">plain<" not in single
    assert drawn_losses(tmp_path / "a.loss.csv") == both
    assert lines_of(both) - lines_of(single) >= 2


def test_long_curves_are_means_of_equal_stretches() -> None:
    found = _thinned([float(i) for i in range(2 * POINTS)])
    assert len(found) == POINTS and found[:2] == [0.5, 2.5]
    assert _thinned([3.0]) == [3.0] and _thinned([]) == []


def test_an_empty_curve_is_drawn_too(tmp_path: Path) -> None:
    kept = LossCurve(tmp_path / "c.loss.csv", ("plain",))
    kept.close()
    assert b"<svg" in drawn_losses(tmp_path / "c.loss.csv")


@pytest.mark.parametrize("term", ["plain", "extra"])
def test_a_term_that_a_phase_lacks_has_no_points_there(tmp_path: Path, term: str) -> None:
    """Ten steps of two phases; `extra` is in the first alone."""
    import csv

    with curve(tmp_path / "d.loss.csv", ("plain", "extra"), 5).open() as file:
        filled = [line for line in csv.DictReader(file) if line[term]]
    assert len(filled) == (5 if term == "extra" else 10)
