"""The statistics behind every verdict: coverage by simulation, symmetry, monotony, and honest nights."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, chi2, norm, t
from statsmodels.stats.proportion import proportion_confint

from vlm_gauntlet.fixtures.errors import GauntletError
from vlm_gauntlet.leaderboard.comparison import (
    ALPHA,
    MARGIN,
    Comparison,
    SeedSpread,
    false_discovery,
    paired,
    samples_needed,
    two_sample,
)
from vlm_gauntlet.leaderboard.statistics import clopper_pearson, wilson

fractions = st.floats(0.02, 0.98)
sizes = st.integers(20, 5000)


@pytest.mark.parametrize(("n", "p", "half"), [(200, 0.5, 6.9), (500, 0.3, 4.0), (1000, 0.1, 1.9), (5000, 0.3, 1.3)])
def test_wilson_half_widths(n: int, p: float, half: float) -> None:
    """Golden: the field's table of half-widths in points (the statistics sheet, section 6)."""
    found = wilson(p * n, n)
    assert 100 * (found.high - found.low) / 2 == pytest.approx(half, abs=0.06)


@pytest.mark.parametrize("n", [24, 200])
@pytest.mark.parametrize("p", [0.05, 0.3, 0.5, 0.9])
def test_intervals_cover(n: int, p: float) -> None:
    """Exact coverage over all counts: Clopper-Pearson never below 95 %, Wilson near it."""
    weights = binom.pmf(range(n + 1), n, p)
    exact = [clopper_pearson(k, n) for k in range(n + 1)]
    score = [wilson(k, n) for k in range(n + 1)]
    assert sum(w for w, e in zip(weights, exact, strict=True) if e.low <= p <= e.high) >= 0.95
    assert sum(w for w, e in zip(weights, score, strict=True) if e.low <= p <= e.high) >= 0.92
    assert all(e.low <= s.high and s.low <= e.high for e, s in zip(exact, score, strict=True))


def test_clopper_pearson_golden() -> None:
    """Clopper and Pearson 1934: 3 of 20 gives 3.2 to 37.9 %."""
    assert (clopper_pearson(3, 20).low, clopper_pearson(3, 20).high) == pytest.approx((0.0321, 0.3789), abs=1e-3)
    assert clopper_pearson(3, 20).low == pytest.approx(proportion_confint(3, 20, method="beta")[0])


@pytest.mark.parametrize(("p", "n"), [(0.1, 300), (0.4, 300), (0.8, 1000)])
def test_difference_intervals_cover(p: float, n: int) -> None:
    draws = np.random.default_rng(0)
    pairs = zip(draws.binomial(n, p, 400), draws.binomial(n, p, 400), strict=True)
    found = [two_sample(a, n, b / n, n) for a, b in pairs]
    assert np.mean([f.low <= 0 <= f.high for f in found]) >= 0.92
    assert np.mean([f.p < ALPHA for f in found]) <= 0.09


@given(fractions, fractions, sizes, sizes)
@settings(deadline=None)
def test_two_sample_is_symmetric(a: float, b: float, n: int, m: int) -> None:
    one, other = two_sample(a * n, n, b, m), two_sample(b * m, m, a, n)
    assert one.difference == pytest.approx(-other.difference)
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low), abs=1e-6)
    assert one.p == pytest.approx(other.p, abs=1e-6) and one.equivalent == other.equivalent


@given(fractions, fractions, st.integers(30, 2000))
@settings(deadline=None)
def test_more_samples_say_more(a: float, b: float, n: int) -> None:
    few, many = two_sample(a * n, n, b, n), two_sample(a * 4 * n, 4 * n, b, 4 * n)
    assert many.tolerance < few.tolerance
    assert many.p <= few.p + 1e-9
    if abs(a - b) < 1e-6:
        assert many.equivalent >= few.equivalent


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=60))
@settings(deadline=None)
def test_paired_is_symmetric_and_counts_flips_only(pairs: list[tuple[int, int]]) -> None:
    ours, theirs = [a for a, _ in pairs], [b for _, b in pairs]
    one, other = paired(ours, theirs), paired(theirs, ours)
    assert one.p == pytest.approx(other.p) and one.difference == pytest.approx(-other.difference)
    assert one.low - 1e-9 <= one.difference <= one.high + 1e-9
    longer = paired([*ours, 1, 0], [*theirs, 1, 0])
    assert longer.p == pytest.approx(one.p), "a sample that did not flip is no evidence"
    same = paired(ours, ours)
    assert same.p == 1.0 and same.low == -same.high < 0, "no flips of n samples exclude little"


def test_mcnemar_golden() -> None:
    """Two-sided exact: 1 against 9 flips is 2 * (1 + 10) / 2**10."""
    ours = [1] * 1 + [0] * 9 + [1] * 10
    theirs = [0] * 1 + [1] * 9 + [1] * 10
    assert paired(ours, theirs).p == pytest.approx(22 / 1024)


def test_a_three_point_drop_is_caught_at_5000_and_not_at_200() -> None:
    caught, unsure = two_sample(0.37 * 5000, 5000, 0.40, 5000), two_sample(0.37 * 200, 200, 0.40, 200)
    assert caught.p < ALPHA and caught.high < 0
    assert unsure.p > ALPHA and not unsure.equivalent, "neither red nor green"


def test_equal_numbers_are_green_only_where_n_can_tell() -> None:
    needed = samples_needed(0.4, 5000)
    assert needed is not None
    assert two_sample(0.4 * 2 * needed, 2 * needed, 0.4, 5000).equivalent
    assert not two_sample(0.4 * needed / 2, needed // 2, 0.4, 5000).equivalent
    assert samples_needed(0.4, 500) is None, "the claim's own n cannot carry three points"


def test_equivalence_is_two_one_sided_tests_at_five_percent() -> None:
    """Where the 90 % interval fits in the margin and the 95 % one does not, the two are the same result (TOST)."""
    between = (  # equal accuracies, from too few samples to enough, for each kind of comparison
        [two_sample(0.4 * n, n, 0.4, n) for n in range(1000, 4000, 50)],
        [two_sample(0.4 * n, n, 0.4, n, spread=SeedSpread(0.001, 30)) for n in range(1000, 4000, 50)],
        [
            paired([1.0] * k + [0.0] * k + [1.0] * (1000 - 2 * k), [0.0] * k + [1.0] * k + [1.0] * (1000 - 2 * k))
            for k in range(10, 200)
        ],
    )
    for found in between:
        assert any(f.equivalent and max(-f.low, f.high) > MARGIN for f in found), "stricter than two tests at 5 %"
        for f in found:
            # z is 1.645 and 1.960; Clopper-Pearson and Student's t have nearly the same ratio
            ratio = max(-f.low, f.high) / MARGIN
            assert not f.equivalent or ratio < 1.1 * 1.960 / 1.645, "laxer than two tests at 5 %"
            assert f.equivalent or ratio > 0.9 * 1.960 / 1.645, "stricter than two tests at 5 %"


@pytest.mark.parametrize("share", [0.2, 0.6])
def test_a_large_difference_is_never_equivalent(share: float) -> None:
    """Neither below nor above, of any kind: the interval must fit in the margin on both sides."""
    plain, trained = (two_sample(share * 9999, 9999, 0.4, 9999, spread=s) for s in (None, SeedSpread(0.001, 30)))
    same = paired([1.0] * int(share * 1000) + [0.0] * int((1 - share) * 1000), [1.0] * 400 + [0.0] * 600)
    assert not plain.equivalent and not trained.equivalent and not same.equivalent


def test_rounding_is_the_claims() -> None:
    assert two_sample(3960, 10000, 0.40, 10000, rounding=0.005).p == 1.0
    assert two_sample(3960, 10000, 0.40, 10000).p < 1.0


def test_training_noise_widens() -> None:
    plain = two_sample(3700, 10000, 0.40, 10000)
    retrained = two_sample(3700, 10000, 0.40, 10000, spread=SeedSpread(0.02, 3))
    assert plain.p < ALPHA < retrained.p
    assert retrained.tolerance > plain.tolerance
    assert two_sample(3700, 10000, 0.40, 10000, spread=SeedSpread(0.02, 30)).tolerance < retrained.tolerance


def test_both_sides_were_trained() -> None:
    """With samples without end, what is left is the spread of a difference of two trainings: sqrt(2) sd."""
    found = two_sample(0.4 * 10**10, 10**10, 0.4, 10**10, spread=SeedSpread(0.01, 3))
    assert found.tolerance == pytest.approx(4.3027 * 2**0.5 * 0.01, rel=1e-3), "Student's t at two degrees of freedom"


def retrainings(
    difference: float, sd: float, trainings: int, n: int, m: int = 10000, runs: int = 600
) -> list[Comparison]:
    """Both sides trained apart, sampled apart; the spread is estimated from `trainings` further trainings."""
    draws = np.random.default_rng(4)
    ours, theirs = 0.4 + difference + sd * draws.standard_normal(runs), 0.4 + sd * draws.standard_normal(runs)
    spreads = np.std(sd * draws.standard_normal((runs, trainings)), axis=1, ddof=1)
    right, claimed = draws.binomial(n, ours), draws.binomial(m, theirs) / m
    return [
        two_sample(k, n, c, m, spread=SeedSpread(s, trainings)) for k, c, s in zip(right, claimed, spreads, strict=True)
    ]


def theory(sd: float, trainings: int, n: int, m: int = 10000) -> float:
    """Coverage of Welch and Satterthwaite's interval: over the law of the estimated spread, no simulation."""
    sampling, training = 0.24 * (1 / n + 1 / m), 2 * sd**2
    shares = chi2.ppf((np.arange(4000) + 0.5) / 4000, trainings - 1) / (trainings - 1)
    seen = sampling + training * shares
    half = t.ppf(1 - ALPHA / 2, seen**2 / ((training * shares) ** 2 / (trainings - 1))) * np.sqrt(seen)
    return float(np.mean(1 - 2 * norm.sf(half / np.sqrt(sampling + training))))


@pytest.mark.parametrize(("sd", "n"), [(0.002, 1000), (0.005, 1000), (0.02, 1000), (0.01, 5000), (0.02, 10000)])
@pytest.mark.parametrize("trainings", [3, 5])
def test_retrained_intervals_cover_what_their_theory_says(sd: float, n: int, trainings: int) -> None:
    found = retrainings(0.0, sd, trainings, n)
    covered, expected = sum(f.low <= 0 <= f.high for f in found), theory(sd, trainings, n)
    assert binom.ppf(0.001, len(found), expected) <= covered <= binom.ppf(0.999, len(found), expected)
    assert expected >= 0.915, "as its docstring says"
    at_the_margin = retrainings(MARGIN, sd, trainings, n)
    assert sum(f.equivalent for f in at_the_margin) <= binom.ppf(0.999, len(at_the_margin), ALPHA)


def test_retrained_models_can_be_decided_about() -> None:
    """Student's t of two degrees for all of the noise, sampling noise too, decides nothing at any of these sizes."""
    same, below = retrainings(0.0, 0.005, 3, 5000), retrainings(-0.08, 0.005, 3, 5000)
    assert np.mean([f.equivalent for f in same]) > 0.5
    assert np.mean([f.p < ALPHA for f in below]) > 0.95
    assert 4.3027 * (0.24 / 5000 + 0.24 / 10000) ** 0.5 > MARGIN > 2.92 * 0.005, "what the old law could never fit"


def test_false_alarms_of_a_night() -> None:
    """200 claims that all hold: a night with any red one comes at most as often as the level says."""
    draws, nights, size = np.random.default_rng(1), 60, 200
    red = 0
    for _ in range(nights):
        p = draws.uniform(0.02, 0.98, size)
        a, b = draws.binomial(1000, p), draws.binomial(5000, p)
        ps = [two_sample(x, 1000, y / 5000, 5000).p for x, y in zip(a, b, strict=True)]
        red += min(false_discovery(ps)) < ALPHA
    assert red <= binom.ppf(0.999, nights, ALPHA), f"{red} of {nights} nights"


def test_one_injected_drop_is_found_among_200() -> None:
    draws = np.random.default_rng(2)
    p = draws.uniform(0.2, 0.8, 200)
    counts = draws.binomial(5000, p)
    counts[17] = round((p[17] - 0.06) * 5000)
    qs = false_discovery([two_sample(c, 5000, x, 5000).p for c, x in zip(counts, p, strict=True)])
    assert qs[17] < ALPHA


def test_benjamini_hochberg_golden() -> None:
    """Benjamini and Hochberg 1995, by hand: q_i = min over j >= i of m p_j / j."""
    assert false_discovery([0.01, 0.04, 0.03, 0.5]) == pytest.approx([0.04, 0.16 / 3, 0.16 / 3, 0.5])
    assert false_discovery([]) == []
    qs = false_discovery([0.001, 0.2, 0.01])
    assert all(q >= p for q, p in zip(qs, [0.001, 0.2, 0.01], strict=True))


@pytest.mark.parametrize(("k", "n", "p", "m"), [(1, 0, 0.5, 10), (5, 10, 40.0, 10), (5, 10, 0.4, 0), (11, 10, 0.4, 10)])
def test_nonsense_is_refused(k: float, n: int, p: float, m: int) -> None:
    with pytest.raises(GauntletError):
        two_sample(k, n, p, m)


def test_pairs_must_match() -> None:
    for ours, theirs in itertools.product([[], [1.0]], [[], [1.0, 0.0]]):
        with pytest.raises(GauntletError, match="samples against"):
            paired(ours, theirs)


def test_the_margin_is_a_fraction() -> None:
    assert 0 < MARGIN < 0.1
