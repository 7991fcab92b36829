"""What only several outcomes together can show, and what answers it."""

import numpy as np
import pytest
from scipy.stats import binom

from vlm_gauntlet.leaderboard.flags import FINAL, MASKING, Flag, unanswered
from vlm_gauntlet.leaderboard.rows import Row, headline, rows

from .factory import fired, outcome

TRANSFER, PSEUDO = "pgd-10-transfer-linf-1-255", "pgd-10-pseudo-transfer-linf-1-255"
NOISE, SQUARE = "noise-14-black-box-linf-1-255", "square-1000-black-box-linf-1-255"
PGD, ADAPTIVE = "pgd-10-white-box-linf-1-255", "pgd-20-adaptive-linf-1-255"
UNBOUNDED = "pgd-20-adaptive-linf-1"


def only(*outcomes: object) -> Row:
    (row,) = rows(outcomes)  # type: ignore[arg-type]
    return row


def red(row: Row) -> list[str]:
    return [flag.name for flag in row.masked_by]


def test_levels_fill_their_columns() -> None:
    row = only(outcome("1111", TRANSFER), outcome("1110", PGD), outcome("1100", ADAPTIVE), outcome("1000", SQUARE))
    found = {level: estimate.value for level, estimate in row.columns.items()}
    assert found == {"T0": 1.0, "T1": 0.5, "T3": 0.25}
    assert row.worst and row.worst.accuracy.value == 0.25


def test_a_gradient_no_better_than_random_starts_masks() -> None:
    """CLIPure as released: fourteen random starts are all that its evaluation amounts to."""
    noise = outcome("1" * 15 + "0" * 5, NOISE)
    assert red(only(noise, outcome("1" * 15 + "0" * 5, PGD))) == ["noise-suffices"]
    assert red(only(noise, outcome("1" * 14 + "0" * 6, PGD))) == []
    assert red(only(outcome("1" * 20, NOISE), outcome("1" * 20, PGD))) == [], "noise takes nothing at a small budget"


def test_noise_is_answered_by_an_adaptive_attack() -> None:
    noise, blind = outcome("1" * 15 + "0" * 5, NOISE), outcome("1" * 15 + "0" * 5, PGD)
    row = only(noise, blind, outcome("0" * 20, ADAPTIVE))
    assert row.state == "valid" and "noise-suffices" in [f.name for f in row.flags]


def test_gradients_that_mislead_have_no_answer() -> None:
    row = only(outcome("0" * 20, SQUARE), outcome("1" * 20, PGD), outcome("1" * 20, ADAPTIVE))
    assert row.state == "masked" and red(row) == ["gradients-mislead"]
    mended = only(outcome("0" * 20, SQUARE), outcome("1" * 20, PGD), outcome("0" * 20, ADAPTIVE))
    assert mended.state == "valid" and "black-box-beats-white-box" in [f.name for f in mended.flags]


@pytest.mark.parametrize("name", sorted(MASKING))
def test_a_flag_on_the_defence_has_no_answer_and_one_on_an_attack_has(name: str) -> None:
    """The adaptive attack leaves nothing, on the same samples as the flagged one."""
    flagged, strong = outcome("1" * 20, PGD), outcome("0" * 20, ADAPTIVE)
    left = unanswered([Flag(name, PGD, "", masking=True)], [strong], [flagged, strong])
    assert [flag.name for flag in left] == ([name] if name in FINAL else [])


@pytest.mark.parametrize(("left", "answers"), [(9, True), (8, True), (10, False), (14, False)])
def test_an_answer_leaves_no_more_samples(left: int, answers: bool) -> None:
    """Of 24 the flagged attack leaves 9; one sample more is no answer, though no test tells them apart."""
    flagged, strong = (outcome("1" * k + "0" * (24 - k), p) for k, p in ((9, PGD), (left, ADAPTIVE)))
    open_ = unanswered([Flag("zero-gradient", PGD, "", masking=True)], [strong], [flagged, strong])
    assert (not open_) == answers


def test_what_breaks_only_what_transfer_breaks_is_no_answer() -> None:
    """The undefended backbone's gradient in place of the defence's own is a transferred attack under another name."""
    flag = Flag("zero-gradient", PGD, "", masking=True)
    flagged, transfer = outcome("1" * 20, PGD), outcome("1" * 15 + "0" * 5, TRANSFER)

    def open_after(bits: str) -> bool:
        adaptive = outcome(bits, ADAPTIVE)
        return unanswered([flag], [adaptive], [transfer, flagged, adaptive]) == [flag]

    assert open_after("1" * 15 + "0" * 5) and open_after("1" * 18 + "0" * 2)
    assert not open_after("1" * 14 + "0" * 6), "one sample beyond the transferred attack"
    assert not open_after("0" + "1" * 19), "another sample than the transferred attack takes"
    assert not open_after("0" * 20)


def test_where_transfer_takes_all_an_attack_that_takes_all_answers() -> None:
    flag = Flag("zero-gradient", PGD, "", masking=True)
    everything = [outcome("0" * 20, p) for p in (TRANSFER, ADAPTIVE)]
    assert unanswered([flag], everything[1:], [*everything, outcome("1" * 20, PGD)]) == []


@pytest.mark.parametrize(("flagged", "adaptive"), [(0.4, 0.9), (0.5, 0.5), (0.9, 0.4)])
def test_how_often_chance_makes_an_answer(flagged: float, adaptive: float) -> None:
    """Size and power at n = 8, where a sign test rejects next to nothing: P(no more left), by binomials."""
    n, runs, draws = 8, 300, np.random.default_rng(7)
    left = draws.binomial(n, [flagged, adaptive], (runs, 2))
    seen = {
        k: (outcome("1" * k + "0" * (n - k), PGD), outcome("1" * k + "0" * (n - k), ADAPTIVE)) for k in range(n + 1)
    }
    flag = Flag("zero-gradient", PGD, "", masking=True)
    answered = sum(not unanswered([flag], [seen[b][1]], [seen[a][0], seen[b][1]]) for a, b in left)
    wanted = sum(binom.pmf(k, n, flagged) * binom.cdf(k, n, adaptive) for k in range(n + 1))
    assert binom.ppf(0.001, runs, wanted) <= answered <= binom.ppf(0.999, runs, wanted)
    assert (wanted < 0.05) if flagged < adaptive else (wanted > 0.5)


def test_a_leaked_label_masks() -> None:
    """Right because the attack told the label: gone when the attacker aims away from the model's own answer."""
    clean = "0" * 10 + "1" * 10
    leaking = outcome("1" * 20, TRANSFER, clean=clean)
    row = only(leaking, outcome("0" * 10 + "1" * 10, PSEUDO, clean=clean), outcome("1" * 20, PGD, clean=clean))
    assert red(row) == ["label-leak"]
    honest = only(outcome(clean, TRANSFER, clean=clean), outcome(clean, PSEUDO, clean=clean), outcome(clean, PGD))
    assert red(honest) == []


def test_an_unbounded_attack_that_fails_masks_every_budget() -> None:
    found = rows([outcome("1" * 20, PGD), outcome("1" * 5 + "0" * 15, UNBOUNDED)])
    assert {str(r.threat.eps): red(r) for r in found}["1/255"] == ["unbounded-attack-fails"]
    fine = rows([outcome("1" * 20, PGD), outcome("1" + "0" * 19, UNBOUNDED)])
    assert {str(r.threat.eps): red(r) for r in fine}["1/255"] == []
    assert [str(r.threat.eps) for block in headline(found).values() for r in block] == ["1/255"]


@pytest.mark.parametrize("knowledge", [PGD, ADAPTIVE])
def test_a_batch_that_matters_has_no_answer(knowledge: str) -> None:
    spoiled = outcome("1100", knowledge, indicators=[fired("batch-dependent")])
    row = only(spoiled, outcome("0000", "fgsm-white-box-linf-1-255"))
    assert red(row) == ["batch-dependent"]


def test_an_adaptive_attack_with_a_red_flag_of_its_own_answers_nothing() -> None:
    first = outcome("1110", PGD, indicators=[fired("zero-gradient")])
    second = outcome("1110", ADAPTIVE, indicators=[fired("dead-gradient")])
    assert red(only(first, second)) == ["zero-gradient", "dead-gradient"]
