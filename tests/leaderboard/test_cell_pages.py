"""A cell's page: who broke which samples, its history, its citation; every name in it is text."""

import json
import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlm_gauntlet.fixtures.records import Sample
from vlm_gauntlet.leaderboard import bibtex
from vlm_gauntlet.leaderboard.broken import COLUMNS, IDS, Fate, broken, fate, strip
from vlm_gauntlet.leaderboard.cell_pages import cell_link, histories, page_of, row_link
from vlm_gauntlet.leaderboard.evidence import Evidence
from vlm_gauntlet.leaderboard.rows import rows
from vlm_gauntlet.leaderboard.site import build_site
from vlm_gauntlet.leaderboard.worst_case import NEVER_BROKEN, WRONG_ANYWAY

from .factory import MADE, outcome

PGD, APGD = "pgd-10-white-box-linf-1-255", "apgd-ce-white-box-linf-1-255"
TRANSFER, ADAPTIVE = "pgd-10-transfer-linf-1-255", "pgd-20-adaptive-linf-1-255"
EVIL = "evil:<script>alert(1)</script>&\"'}"
BITS = st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), min_size=1, max_size=40)


@given(BITS)
@settings(deadline=None)
def test_the_matrix_agrees_with_the_worst_case(bits: list[tuple[bool, bool, bool]]) -> None:
    clean, one, two = ("".join(str(int(bit)) for bit in column) for column in zip(*bits, strict=True))
    (row,) = rows([outcome(one, PGD, clean=clean), outcome(two, APGD, clean=clean)])
    found = broken(row)
    assert found and row.worst
    assert found.never == row.worst.broken_by.get(NEVER_BROKEN, 0)
    assert found.wrong == row.worst.broken_by.get(WRONG_ANYWAY, 0) and found.of == len(bits)
    by = {attack.outcome.cell.protocol.id: attack for attack in found.attacks}
    fell = {p: {f"{i:04d}" for i, b in enumerate(bits) if b[0] and not b[k]} for k, p in ((1, PGD), (2, APGD))}
    for mine, other in ((PGD, APGD), (APGD, PGD)):
        assert set(by[mine].broke) == fell[mine] and set(by[mine].alone) == fell[mine] - fell[other]
        assert set(by[mine].named[: len(by[mine].alone)]) <= set(by[mine].alone) and len(by[mine].named) <= IDS


@pytest.mark.parametrize(
    ("clean", "attacked", "expected"), [(0, 3, "wrong"), (3, 3, "stands"), (2, 3, "stands"), (3, 1, "in part"),
                                        (3, 0, "broken")],
)  # fmt: skip
def test_what_became_of_a_sample(clean: int, attacked: int, expected: Fate) -> None:
    assert fate(Sample(id="a", label=0, clean=clean, attacked=attacked)) == expected


@given(st.lists(st.sampled_from(["stands", "in part", "broken", "wrong"]), min_size=1, max_size=60))
def test_a_strip_holds_each_sample_at_its_place(fates: list[Fate]) -> None:
    drawn = str(strip(fates))
    seen: list[str] = ["wrong"] * len(fates)
    for name, path in re.findall(r'<path class="([a-z-]+)" d="([^"]+)"', drawn):
        for start, width in re.findall(r"M(\d+) \d+h(\d+)v", path):
            seen[int(start) : int(start) + int(width)] = [name.replace("-", " ")] * int(width)
    assert seen == fates and f'viewBox="0 0 {len(fates)} 10"' in drawn


def test_other_samples_give_no_common_order() -> None:
    (row,) = rows([outcome("1100", PGD), outcome("11", APGD, ids=["a", "b"])])
    found = broken(row)
    assert found and found.worst is None and all(not attack.alone for attack in found.attacks)
    assert broken(rows([outcome("11", "clean")])[0]) is None


def test_history_tells_each_outcome_once_and_which_are_here() -> None:
    now, other = outcome("1100"), outcome("1000", code="other", age_days=3)
    before = [outcome("1111", age_days=1), now]
    (past,) = histories([now, other], before).values()
    assert [(one.left.value, one.here) for one in past] == [(0.25, True), (1.0, False), (0.5, True)]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = [
        outcome("0" * 300 + "1" * 300, PGD, method="ttc"), outcome("1" * 300 + "0" * 300, TRANSFER, method="ttc"),
        outcome("1100", PGD, method=EVIL, backbone="a/../<b>", dataset=EVIL, ids=[f"<i>{i}" for i in range(4)]),
        outcome("1100", PGD), outcome("1000", APGD), outcome("1010", APGD, code="older", age_days=2),
        outcome("1100", PGD, seed=3),
    ]  # fmt: skip
    before = Evidence(sound=[outcome("1111", PGD, age_days=1)])
    return build_site(made, tmp_path_factory.mktemp("cells") / "site", made=MADE, previous=before).parent


def test_each_cell_has_its_anchor_and_is_linked_from_its_method_and_back(site: Path) -> None:
    for o in (outcome("1100", PGD), outcome("1100", PGD, seed=3), outcome("1000", APGD)):
        path, _, anchor = cell_link(o).partition("#")
        text = (site / path).read_text()
        assert f'id="{anchor}"' in text and f'href="../../../outcomes/{o.key}.json"' in text
        assert 'href="../../../methods/tecoa.html"' in text
        assert f'href="../{cell_link(o)}"' in (site / "methods" / "tecoa.html").read_text()
        assert bibtex.of_cell(o).splitlines()[0] in text and "@misc{gauntlet-night-2026-01-02-" in text
    for row in rows([outcome("1100", PGD)]):
        assert f'href="../{row_link(row)}"' in (site / "datasets" / "shapes.html").read_text()


def test_history_stands_at_the_cell(site: Path) -> None:
    text = (site / page_of(outcome("1100").cell)).read_text()
    assert text.count("Every outcome of this cell") == 2, "two cells changed, the third has no past"
    assert f"{outcome('1111').key[:8]}, of a night before" in text and "2026-01-01 03:04" in text
    older = outcome("1010", APGD, code="older", age_days=2)
    assert f'href="../../../outcomes/{older.key}.json"' in text, "left out of the row, kept in the history"
    assert text.count("No other outcome of this cell is known here") == 1


def test_long_lists_are_cut_and_say_so(site: Path) -> None:
    text = (site / page_of(outcome("1", method="ttc").cell)).read_text()
    assert (
        f"The first {COLUMNS} of 600 samples" in text
        and f'viewBox="0 0 {COLUMNS} 10"' in text
        and f"and {300 - IDS} more" in text
    )
    assert len(re.findall(r"\b0\d{3}\b", text)) < 3 * IDS


def test_names_are_text(site: Path) -> None:
    (page,) = [p for p in (site / "cells").rglob("*.html") if "evil" in p.name]
    text = page.read_text()
    assert text.count("<script") == 1 and "<i>" not in text and "&lt;i&gt;2" in text
    assert page.is_relative_to(site / "cells") and len(page.relative_to(site).parts) == 4


def test_a_night_is_cited_by_what_it_holds() -> None:
    one = bibtex.of_night([outcome("1100")], [], MADE)
    assert one != bibtex.of_night([outcome("1100", age_days=1)], [], MADE) != bibtex.of_night([], [], MADE)
    both = [outcome("1100"), outcome("1100", APGD)]
    assert bibtex.of_night(both, [], MADE) == bibtex.of_night(both[::-1], [], MADE) and "2 outcomes" in (
        bibtex.of_night(both, [], MADE)
    )
    assert one.count("{") == one.count("}") and json.dumps(one) and not urlsplit(one).scheme
