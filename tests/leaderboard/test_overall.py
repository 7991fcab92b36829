"""Lines of the leaderboard: what they average over, what their state is worth, who ranks before whom."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_gauntlet.fixtures.records import Outcome
from vlm_gauntlet.leaderboard.controls import controls
from vlm_gauntlet.leaderboard.evidence import Evidence
from vlm_gauntlet.leaderboard.in_a_sentence import failed, fell, holds, left_of_t0, ran
from vlm_gauntlet.leaderboard.nights import night
from vlm_gauntlet.leaderboard.overall import Board, averaged_over, boards, named_suites, suites
from vlm_gauntlet.leaderboard.rank_groups import all_remaining, rank_ranges
from vlm_gauntlet.leaderboard.rows import rows
from vlm_gauntlet.leaderboard.site import build_site
from vlm_gauntlet.leaderboard.suite_pages import suite_boards
from vlm_gauntlet.suites.tiers import tier

from .factory import fired, outcome

TRANSFER, ADAPTIVE = "pgd-10-transfer-linf-1-255", "pgd-20-adaptive-linf-1-255"
ZERO = "pgd-10-white-box-linf-0"


def board(outcomes: Sequence[Outcome]) -> Board:
    found = rows(outcomes)
    (made,) = boards(found, all_remaining(found))
    return made


def test_a_mean_gives_each_data_set_the_same_weight() -> None:
    (line,) = board([outcome("1100", dataset="a"), outcome("1" * 40, dataset="b")]).lines
    assert line.suite.datasets == ("a", "b") and line.suite.words == "mean of 2 data sets"
    assert line.worst and line.worst.value == pytest.approx(0.75) and line.worst.n == line.n == 44
    assert line.worst.low < 0.75 < line.worst.high and line.state == "valid" and line.t0 is None


def test_a_line_is_worth_its_worst_part() -> None:
    masked = [outcome("11", dataset="a"), outcome("11", dataset="b", indicators=[fired("dead-gradient")])]
    line, other = board([*masked, *(outcome("10", dataset=d, method="fare") for d in "ab")]).lines[::-1]
    assert (line.state, line.state_words, line.place) == ("masked", "on 1 of 2 data sets", None)
    assert other.first.method == "fare" and other.place and other.place.words == "1" and other.place.of == 1


def test_a_line_that_lacks_a_set_has_no_mean_and_no_rank() -> None:
    whole = [outcome("1100", dataset=d, method=m) for d in "ab" for m in ("fare", "tecoa")]
    found = board([*whole, outcome("1111", dataset="a", method="ft_adv")])
    assert found.suite.datasets == ("a", "b") and found.datasets == ("a", "b")
    last = found.lines[-1]
    assert (last.first.method, last.state) == ("ft_adv", "incomplete")
    assert last.worst is last.clean is last.place is None
    assert last.state_words == "1 of 2 data sets"


def test_ranks_of_means_need_more_than_their_order() -> None:
    far = [outcome("1" * 60, dataset=d) for d in "ab"] + [outcome("0" * 60, dataset=d, method="fare") for d in "ab"]
    assert [line.place and line.place.words for line in board(far).lines] == ["1", "2"]
    near = [outcome("1" * 30 + "0" * 30, dataset=d) for d in "ab"]
    near += [outcome("1" * 29 + "0" * 31, dataset=d, method="fare") for d in "ab"]
    assert [line.place and line.place.words for line in board(near).lines] == ["1–2", "1–2"]


def test_one_data_set_ranks_as_its_own_table() -> None:
    (line,) = board([outcome("1100")]).lines
    assert line.place and line.place.words == "1" and line.suite.words == "shapes"


@given(st.lists(st.integers(1, 63), min_size=1, max_size=6))
def test_the_suite_is_one_that_somebody_has_and_that_no_other_beats(drawn: list[int]) -> None:
    covered = [{name for i, name in enumerate("abcdef") if bits >> i & 1} for bits in drawn]
    suite, others = suites([sorted(names) for names in covered])
    worth = len(suite.datasets) * sum(set(suite.datasets) <= names for names in covered)
    assert worth >= max(len(names) * sum(names <= other for other in covered) for names in covered)
    assert any(set(suite.datasets) <= names for names in covered) and others == ()


def test_a_list_of_papers_keeps_its_name() -> None:
    assert suites([SHIFTS])[0].words == "mean of 5 data sets (imagenet-shift-5)"
    suite, (other,) = suites([(*SHIFTS, "cifar10")])
    assert suite.name == "here" and len(suite.datasets) == 6 and other.name == "imagenet-shift-5"


SHIFTS = ("imagenet", "imagenet_a", "imagenet_r", "imagenet_sketch", "imagenet_v2")


def test_a_suite_has_a_mean_only_where_a_row_has_all_of_it() -> None:
    made = [outcome("1100", dataset=d) for d in SHIFTS] + [outcome("1000", method="ttc", dataset="cifar10")]
    made += [outcome("1110", method="fare", dataset=d) for d in (*SHIFTS[:3], "cifar10")]
    found = rows(made)
    left = all_remaining(found)
    ranks = rank_ranges(found, left)
    whole = boards(found, left, ranks)
    (shifts,) = (one for one in named_suites() if one.name == "imagenet-shift-5")
    (over,) = averaged_over(whole, shifts, left, ranks)
    tecoa, fare = over.lines
    assert (tecoa.first.method, fare.first.method) == ("tecoa", "fare"), "ttc has none of these sets"
    assert tecoa.worst and tecoa.worst.value == 0.5 and tecoa.place and tecoa.place.of == 1 and tecoa.missing == []
    assert fare.worst is None and fare.clean is None and fare.place is None and fare.state == "incomplete"
    assert fare.missing == [*SHIFTS[3:]]
    told = {one.suite.name: (one.whole, one.of) for one in suite_boards(whole, left, ranks)}
    assert next(iter(told)) == "imagenet-shift-5" and told["imagenet-shift-5"] == (1, 2) and told["ttc-16"] == (0, 3)
    assert "coop-8" not in told, "nothing of it was run"


def test_every_suite_is_of_a_paper_or_a_tier() -> None:
    found = [row for row in rows([outcome("1100", dataset=d) for d in ("imagenet", "caltech101", "emoji_groups")])]
    left = all_remaining(found)
    ranks = rank_ranges(found, left)
    made = suite_boards(boards(found, left, ranks), left, ranks)
    assert {one.suite for one in made} == {*named_suites()}
    assert all(
        one.tables or (one.suite.datasets == tuple(sorted(tier("fast").datasets)) and one.origin) for one in made
    )


def test_pages_of_suites_name_what_is_missing_and_keep_kinds_apart(tmp_path: Path) -> None:
    made = [outcome("1100", dataset=d, backbone="open_clip:ViT-B-32-quickgelu/openai") for d in SHIFTS[:2]]
    made += [
        outcome("1100", dataset=d, backbone="miniclip-vit") for d in (*SHIFTS[:1], "emoji_groups", "fashion_mnist")
    ]
    front = build_site(made, tmp_path / "site").read_text()
    assert 'href="suite-imagenet-shift-5.html"' in front and 'href="suite-fast.html"' in front
    page = (tmp_path / "site" / "suite-imagenet-shift-5.html").read_text()
    assert "not run: imagenet_r, imagenet_sketch, imagenet_v2</span>" in page
    assert 'id="board-clip"' in page and 'id="board-toy"' in page and 'by</dt><dd><a href="papers/' in page
    clip, toy = page.split('id="board-toy"')
    assert (
        "miniclip-vit" not in clip.split('id="board-clip"')[1].split("</table>")[0]
        and "open_clip" not in toy.split("</table>")[0]
    )
    fast = (tmp_path / "site" / "suite-fast.html").read_text()
    assert "1 of 1 rows has every data set" in fast and "the data sets of the tier fast" in fast


def test_controls_pass_or_fail() -> None:
    knows, gone = "1" * 20, "0" * 20
    made = [outcome(knows, ZERO, method="tecoa"), outcome(gone, method="undefended")]
    assert [(one.row.method, one.passed) for one in controls(rows(made))] == [("undefended", True), ("tecoa", True)]
    assert failed(controls(rows(made))) == "all controls pass"
    wrong = [outcome("0" + knows[1:], ZERO, method="tecoa"), outcome(knows, method="undefended")]
    assert {one.passed for one in controls(rows(wrong))} == {False} and "2 of 2" in failed(controls(rows(wrong)))
    ignorant = outcome(gone, method="undefended", clean=gone)
    assert controls(rows([ignorant]))[0].word == "cannot be told"
    assert controls(rows([outcome(knows, "pgd-10-white-box-linf-1-255", method="tecoa")])) == []


def test_the_night_in_a_sentence() -> None:
    made = [outcome("1110", TRANSFER, method="fare"), outcome("1000", ADAPTIVE, method="fare"), outcome("1100")]
    found = [board(made)]
    assert ran(found, 3) == "3 outcomes of 2 methods on 1 backbone and 1 data set"
    assert holds(found, {}) == "no claim of a paper could be tested; 2 of 2 rows rank"
    said = left_of_t0(found)
    assert said and said[0] == "fare keeps 25.0 of 75.0"
    assert left_of_t0([board([outcome("1100")])]) is None


def test_what_fell_is_told_of_two_nights() -> None:
    stands, fallen = "1" * 20, "0" * 20
    before = [outcome(stands), outcome(stands, method="fare", seed=2), outcome(fallen, method="ttc")]
    after = [outcome(stands[:12] + fallen[:8]), outcome(fallen, method="fare", seed=2), outcome(stands, method="ttc")]
    fare = "fare-tiny-shapes-pgd-10-white-box-linf-1-255, seed 2 from 100.0 to 0.0"
    assert fell(night(before, after)) == f"{fare}, and 1 more cell"
    assert fell(night(before[1:], after[1:])) == fare, "what rose did not fall"
    assert fell(night(before, before)) == ""


def test_the_front_page_says_fell_of_nights_alone(tmp_path: Path) -> None:
    bound = [outcome("1" * 20, TRANSFER), outcome("0" * 20)]
    alone = build_site(bound, tmp_path / "alone").read_text()
    assert "Fell" not in alone and "tecoa keeps 0.0 of 100.0" in alone
    later = build_site(bound, tmp_path / "later", previous=Evidence(sound=[bound[0], outcome("1" * 20)])).read_text()
    assert 'nights.html#changed">tecoa-tiny-shapes-pgd-10-white-box-linf-1-255 from 100.0 to 0.0</a>' in later
    same = build_site(bound, tmp_path / "same", previous=Evidence(sound=bound)).read_text()
    assert "no cell beyond its interval" in same
