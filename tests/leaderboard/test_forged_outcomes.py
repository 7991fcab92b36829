"""No forged outcome ranks unnoticed, and none stops the board."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vlm_gauntlet.fixtures.records import Outcome
from vlm_gauntlet.leaderboard.evidence import Evidence, gather
from vlm_gauntlet.leaderboard.exports import to_csv, to_json, to_latex
from vlm_gauntlet.leaderboard.site import build_site
from vlm_gauntlet.leaderboard.table import text_table
from vlm_gauntlet.suites.cells import plan
from vlm_gauntlet.suites.journal import Journal
from vlm_gauntlet.suites.known_here import KnownHere
from vlm_gauntlet.suites.plausible import UNJUDGED
from vlm_gauntlet.suites.running import run_cell
from vlm_gauntlet.suites.verification_records import add
from vlm_gauntlet.suites.verify import CannotVerifyError, verify

from .forgeries import FORGERIES, Forgery, rekeyed

N = 6
HERE = KnownHere()


@pytest.fixture(scope="module")
def genuine(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """A small outcome that was really run."""
    (cell,) = plan(["undefended"], "miniclip-vit", ["fashion_mnist"], ["pgd-10-white-box-linf-4-255"], limit=N)
    made = run_cell(cell, Journal(tmp_path_factory.mktemp("genuine")))
    assert 0 < made.attacked_accuracy < made.clean_accuracy < 1, "something to gain and something to lose"
    return made


@pytest.fixture
def judged(tmp_path: Path) -> Callable[..., Evidence]:
    """The evidence of records written into a folder."""

    def run(*records: dict[str, Any]) -> Evidence:
        for number, record in enumerate(records):
            (tmp_path / f"{number}.json").write_text(json.dumps(record))
        return gather(tmp_path, HERE)

    return run


def record(outcome: Outcome) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(outcome.model_dump_json())
    return found


def test_there_are_enough_of_them_and_each_has_a_name() -> None:
    assert len({f.name for f in FORGERIES}) == len(FORGERIES) >= 50


def test_a_genuine_outcome_ranks(genuine: Outcome, judged: Callable[..., Evidence]) -> None:
    found = judged(record(genuine))
    assert not found.aside and not found.unranked and found.sound == [genuine]
    assert not found.doubts[genuine.key]
    (row,) = found.rows()
    assert row.state == "valid" and found.told(row) == "unknown; not verified"


@pytest.mark.parametrize("forgery", FORGERIES, ids=lambda f: f.name)
def test_a_forged_outcome_is_noticed(forgery: Forgery, genuine: Outcome, judged: Callable[..., Evidence]) -> None:
    forged = forgery.of(record(genuine))
    assert json.dumps(forged) != json.dumps(record(genuine))
    found = judged(forged)
    said = [a.reason for a in found.aside] + [found.problem(o) for o in found.unranked]
    assert forgery.said in "\n".join(said) and UNJUDGED not in "\n".join(said)
    if forgery.fate == "aside":
        assert len(found.aside) == 1 and not found.sound and not found.unranked and not found.rows()
    elif forgery.fate == "unranked":
        assert len(found.unranked) == 1 and not found.sound and not found.aside
        assert [row.state for row in found.rows()] == ["unknown here"]
    else:
        (theirs,) = found.sound
        made = verify(theirs, HERE, samples=N, seed=1)
        assert made.result == "differs" and made.words.startswith("differs")


@pytest.mark.parametrize("forgery", [f for f in FORGERIES if f.fate == "unranked"], ids=lambda f: f.name)
def test_what_does_not_rank_takes_no_place(forgery: Forgery, genuine: Outcome, judged: Callable[..., Evidence]) -> None:
    """Newer than the genuine one, and still beside it or gone."""
    forged = forgery.of(record(genuine))
    forged["provenance"]["made"] = genuine.provenance.made.isoformat().replace("2026-11-26", "2026-11-27")
    rows = judged(record(genuine), forged).rows()
    assert [row.outcomes for row in rows if row.state == "valid"] == [(genuine,)]
    assert len({(row.method, row.block) for row in rows}) == len(rows)


def test_one_outcome_under_two_names_counts_once(genuine: Outcome, judged: Callable[..., Evidence]) -> None:
    found = judged(record(genuine), record(genuine))
    assert found.sound == [genuine]
    assert [a.reason for a in found.aside] == ["the same record as 0.json: it counts once"]


def test_two_results_of_one_key_are_both_set_aside(genuine: Outcome, judged: Callable[..., Evidence]) -> None:
    other = next(f for f in FORGERIES if f.name == "every bit right").of(record(genuine))
    found = judged(record(genuine), other)
    assert not found.sound and len(found.aside) == 2
    assert all("different results: 0.json, 1.json" in a.reason for a in found.aside)


def test_the_board_of_all_of_them_stands(genuine: Outcome, tmp_path: Path) -> None:
    """Every forgery in one folder, with files that are no records at all."""
    folder = tmp_path / "o"
    folder.mkdir()
    Journal(folder).write(genuine)
    for number, forgery in enumerate(f for f in FORGERIES if f.fate != "verify"):
        (folder / f"x{number}.json").write_text(json.dumps(forgery.of(record(genuine))))
    nasty = record(genuine)
    nasty["cell"]["method"] = "=HYPERLINK(1)<script>"
    (folder / "nasty.json").write_text(json.dumps(rekeyed(nasty)))
    for name, content in {"cut": b'{"key": "', "text": b"\xff\xfe", "list": b"[]", "deep": b"[" * 100_000, "empty": b"",
                          "<b>": b"null"}.items():  # fmt: skip
        (folder / f"{name}.json").write_bytes(content)
    (folder / "folder.json").mkdir()
    (folder / "nowhere.json").symlink_to("nothing")
    (folder / f"{genuine.key}.verified.json").write_text("{}")
    found = gather(folder, HERE)
    assert found.sound == [genuine]
    page = build_site(found, tmp_path / "site").read_text()
    assert "Set aside" in page and "cut.json" in page and page.count("<script") == 1 and "<b>.json" not in page
    lines = list(csv.DictReader(io.StringIO((tmp_path / "site" / "results.csv").read_text())))
    assert any(line["method"] == "'=HYPERLINK(1)<script>" for line in lines)
    assert not [v for line in lines for v in line.values() if v[:1] in ("=", "+", "@", "\t", "\r")]
    ranked = [line for line in lines if line["state"] == "valid"]
    assert [line["outcomes"] for line in ranked] == [genuine.key]
    again = build_site(gather(folder, HERE), tmp_path / "again", made=None)
    assert again.is_file()


def test_a_forged_file_does_not_take_the_genuine_one_along(genuine: Outcome, judged: Callable[..., Evidence]) -> None:
    """Of one key, but impossible by itself, or with samples missing."""
    for name in ("labels of other samples", "an indicator removed", "hard samples left out"):
        found = judged(next(f for f in FORGERIES if f.name == name).of(record(genuine)), record(genuine))
        assert found.sound == [genuine] and [a.path.name for a in found.aside] == ["0.json"]


def test_a_verification_that_differs_takes_the_rank_away(genuine: Outcome, tmp_path: Path) -> None:
    forged = next(f for f in FORGERIES if f.name == "every bit right").of(record(genuine))
    theirs = Outcome.model_validate_json(json.dumps(forged))
    Journal(tmp_path).write(theirs)
    add(tmp_path, theirs.key, verify(theirs, HERE, samples=N, seed=1, by="a referee"))
    found = gather(tmp_path, HERE)
    assert not found.sound and "a referee recomputed it, and it differs" in found.problem(found.unranked[0])


def test_a_verification_is_shown_and_speaks_of_what_was_seen(genuine: Outcome, tmp_path: Path) -> None:
    Journal(tmp_path).write(genuine)
    for seed in (1, 2):
        add(tmp_path, genuine.key, verify(genuine, HERE, samples=2, seed=seed, by="a referee"))
    found = gather(tmp_path, HERE)
    (row,) = found.rows()
    seen = {i for look in found.looks(genuine) for i in look.chosen}
    assert found.told(row) == f"unknown; {len(seen)} of {N} samples verified" and row.state == "valid"
    page = next((build_site(found, tmp_path / "site").parent / "cells" / "undefended").rglob("*.html")).read_text()
    assert page.count(f"verified 2 of {N} on ") == 2 and "by a referee" in page
    changed = next(f for f in FORGERIES if f.name == "every bit right").of(record(genuine))
    (tmp_path / f"{genuine.key}.json").write_text(json.dumps(changed))
    after = gather(tmp_path, HERE)
    assert not after.looks(after.sound[0]), "it says nothing of other bits under the same key"


ELSEWHERE = ("an invented digest of code", "a method that nobody has", "other data", "a backbone that nobody has",
             "data that nobody has", "batches of two sizes")  # fmt: skip


@pytest.mark.parametrize("name", ELSEWHERE)
def test_what_cannot_be_verified_here_says_why(name: str, genuine: Outcome) -> None:
    forged = next(f for f in FORGERIES if f.name == name).of(record(genuine))
    with pytest.raises(CannotVerifyError, match="cannot verify here: ") as error:
        verify(Outcome.model_validate_json(json.dumps(forged)), HERE, samples=2)
    assert error.value.fix


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 40), st.integers(), st.floats(), st.text(max_size=8),
    st.sampled_from(["1/0", "-1/255", "clean", "tecoa", "ttc@tecoa", "ttc@rn", "tecoa+as_coded", "../../x", "=1", "0",
                     "miniclip-cnn", "digits", "apgd-ce", "fab-t", "square", "none", "text", "both", "black-box"]),
    st.just(10**30),
    st.lists(st.integers(0, 3), max_size=3), st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)  # fmt: skip


def paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = (
        list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []
    )
    return [path, *(found for key, part in inner for found in paths(part, (*path, key)))]


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_is_changed_gives_a_reason_or_a_consistent_record(
    data: st.DataObject, genuine: Outcome, tmp_path_factory: pytest.TempPathFactory
) -> None:
    forged = record(genuine)
    for _ in range(data.draw(st.integers(1, 3))):
        *way, last = data.draw(st.sampled_from([p for p in paths(forged) if p]))
        place: Any = forged
        for step in way:
            place = place[step]
        if data.draw(st.booleans()) and isinstance(place, dict):
            del place[last]
        else:
            place[last] = data.draw(VALUES)
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "forged.json").write_text(json.dumps(rekeyed(forged)), encoding="utf-8", errors="surrogatepass")
    found = gather(folder, HERE)
    assert len(found.aside) + len(found.sound) + len(found.unranked) == 1
    assert not [a for a in found.aside if UNJUDGED in a.reason]
    for outcome in [*found.sound, *found.unranked]:
        assert Outcome.model_validate_json(outcome.model_dump_json(), strict=True) == outcome
        assert outcome.key == outcome.cell.key and 1 <= outcome.n <= outcome.cell.limit
    rows = found.rows()
    assert text_table([*found.sound, *found.unranked], rows)
    assert (
        json.loads(to_json(rows, told=found.told)) is not None
        and to_csv(rows) is not None
        and to_latex(rows) is not None
    )
