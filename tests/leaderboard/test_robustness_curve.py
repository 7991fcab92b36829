"""Robustness curves, their areas and optimality, against values computed by hand."""

import re
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlm_gauntlet.fixtures.errors import GauntletError
from vlm_gauntlet.fixtures.records import Outcome
from vlm_gauntlet.leaderboard.curve_chart import curve_chart
from vlm_gauntlet.leaderboard.optimality import optimality, over_rows
from vlm_gauntlet.leaderboard.robustness_curve import ALL, best_curve, curves

from .factory import outcome

WEAK, STRONG = "pgd-20-adaptive", "ensemble-adaptive"
RADII = ("1-255", "4-255", "8-255")


def tried(attacker: str, bits: tuple[str, ...], **fields: object) -> list[Outcome]:
    return [outcome(b, f"{attacker}-linf-{eps}", **fields) for b, eps in zip(bits, RADII, strict=True)]  # type: ignore[arg-type]


def test_a_sample_broken_at_a_smaller_radius_is_broken_at_a_larger_one() -> None:
    (curve,) = curves(tried(WEAK, ("1011", "1100", "0110"), clean="1111"))
    assert curve.grid == (0, Fraction(1, 255), Fraction(4, 255), Fraction(8, 255))
    assert curve.accuracy == (1.0, 0.75, 0.25, 0.0)
    assert curve.stands == {"0000": (1, 1, 1, 0), "0001": (1, 0, 0, 0), "0002": (1, 1, 0, 0), "0003": (1, 1, 0, 0)}
    assert curve.passes == (0, 20, 40, 60)


def test_the_area_is_the_mean_of_the_smallest_breaking_radius_cut_at_the_largest() -> None:
    (curve,) = curves(tried(WEAK, ("0111", "0011", "0001"), clean="1111"))
    assert curve.area == pytest.approx((1 + 4 + 8 + 8) / 4 / 255)
    (wrong,) = curves(tried(WEAK, ("0111", "0011", "0001"), clean="0111"))
    assert wrong.area == pytest.approx((0 + 4 + 8 + 8) / 4 / 255)
    assert [curve.at(Fraction(eps, 255)) for eps in (0, 1, 3, 4, 100)] == [1.0, 0.75, 0.75, 0.5, 0.25]


def test_optimality_by_hand() -> None:
    """Areas in 1/255: weak 8 8 8 4 = 28/4, strong 4 1 8 8 = 21/4, both 4 1 8 4 = 17/4; without attack 8."""
    rows = [*tried(WEAK, ("1111", "1110", "1110")), *tried(STRONG, ("1011", "0011", "0011"))]
    known = curves(rows)
    strong, weak = optimality(known)
    assert (strong.attacker, weak.attacker) == (STRONG, WEAK)
    assert strong.value == pytest.approx(1 - 4 / (32 - 17)) and weak.value == pytest.approx(1 - 11 / (32 - 17))
    assert best_curve(known).area == pytest.approx(17 / 4 / 255) and best_curve(known).attacker == ALL
    assert best_curve(known).passes == (0, 40, 80, 120) and best_curve(known).at(Fraction(4, 255)) == 0.25


def test_of_equal_attackers_the_cheaper_comes_first() -> None:
    dear = [o.model_copy(update={"attack_cost": o.attack_cost.model_copy(update={"forward": 999})})
            for o in tried("apgd-ce-white-box", ("0111", "0111", "0111"))]  # fmt: skip
    known = curves([*dear, *tried(WEAK, ("0111", "0111", "0111"))])
    assert [one.attacker for one in optimality(known)] == [WEAK, "apgd-ce-white-box"]


def test_where_nothing_falls_nobody_is_compared() -> None:
    known = curves([*tried(WEAK, ("11",) * 3), *tried(STRONG, ("11",) * 3)])
    assert [one.value for one in optimality(known)] == [None, None]
    assert over_rows([optimality(known)]) == {}


def test_who_did_not_try_every_radius_counts_as_far_as_he_came_and_is_not_compared() -> None:
    known = curves([outcome("01", f"{STRONG}-linf-1-255"), *tried(WEAK, ("11", "10", "10"))])
    strong = next(curve for curve in known if curve.attacker == STRONG)
    assert strong.accuracy == (1.0, 0.5, 0.5, 0.5) and strong.passes == (0, 20, 20, 20)
    assert not strong.whole and strong.area < next(c for c in known if c.attacker == WEAK).area
    # In 1/255, of two samples: weak 8 4, both 1 4, without attack 16.
    assert [(o.attacker, o.value) for o in optimality(known)] == [(WEAK, pytest.approx(1 - 7 / 11)), (STRONG, None)]
    assert best_curve(known).accuracy == (1.0, 0.5, 0.0, 0.0) and best_curve(known).whole


def test_the_mean_over_rows_says_over_how_many() -> None:
    one = optimality(curves([*tried(WEAK, ("11", "11", "11")), *tried(STRONG, ("01", "00", "00"))]))
    none = optimality(curves(tried(WEAK, ("11", "11", "11"))))
    assert over_rows([one, one, none]) == {STRONG: (1.0, 2), WEAK: (0.0, 2)}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([outcome("11", "clean")], "no attack"),
        ([outcome("11"), outcome("11", method="ttc")], "2 rows"),
        ([outcome("11"), outcome("111", f"{WEAK}-linf-1-255")], "different samples"),
    ],
)
def test_what_is_no_row_is_refused(rows: list[Outcome], message: str) -> None:
    with pytest.raises(GauntletError, match=message):
        curves(rows)


BITS = st.lists(st.integers(0, 3), min_size=5, max_size=5).map(lambda counts: "".join(map(str, counts)))


@settings(max_examples=40, deadline=None)
@given(first=st.tuples(BITS, BITS, BITS), second=st.tuples(BITS, BITS, BITS), clean=BITS)
def test_curves_never_rise_and_optimality_lies_between_nothing_and_everything(
    first: tuple[str, ...], second: tuple[str, ...], clean: str
) -> None:
    known = curves([*tried(WEAK, first, draws=3, clean=clean), *tried(STRONG, second, draws=3, clean=clean)])
    best = best_curve(known)
    for curve in [*known, best]:
        assert list(curve.accuracy) == sorted(curve.accuracy, reverse=True)
        assert best.area <= curve.area + 1e-12 <= curve.accuracy[0] * float(curve.grid[-1]) + 2e-12
    for one in optimality(known):
        assert one.value is None or -1e-9 <= one.value <= 1 + 1e-9
    assert optimality([best])[0].value in (None, 1.0)


def test_the_drawing() -> None:
    known = curves([*tried(WEAK, ("1111", "1110", "1110")), *tried(STRONG, ("1011", "0011", "0011"))])
    drawn = curve_chart(known, "row-1", "TeCoA on shapes")
    assert drawn is not None and "50.0 at 8/255" not in drawn and "25.0 at 8/255" in drawn and "style=" not in drawn
    assert all(name.startswith("row-1") for name in re.findall(r' id="([^"]+)"', drawn))
    assert curve_chart(curves([outcome("11")]), "a", "b") is None
