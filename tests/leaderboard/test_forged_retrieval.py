"""No forged retrieval outcome counts unnoticed, and none stops the page."""

import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vlm_gauntlet.leaderboard.evidence import Evidence, gather
from vlm_gauntlet.leaderboard.retrieval_page import retrieval_text
from vlm_gauntlet.leaderboard.site import build_site
from vlm_gauntlet.suites.known_here import KnownHere
from vlm_gauntlet.suites.plausible import UNJUDGED
from vlm_gauntlet.suites.retrieval import Setting, run_retrieval
from vlm_gauntlet.suites.retrieval_records import FOLDER, RetrievalJournal, RetrievalOutcome, word_swap
from vlm_gauntlet.suites.verification_records import add
from vlm_gauntlet.suites.verify import CannotVerifyError
from vlm_gauntlet.suites.verify_retrieval import verify_retrieval

from .forgeries import Forgery, rekeyed
from .retrieval_forgeries import FORGERIES
from .test_forged_outcomes import VALUES, paths

N = 4
HERE = KnownHere()
WORDS = word_swap("characters", 1)
SETTING = Setting("undefended", "miniclip-vit", "emoji_captions", "sep", Fraction(8, 255), WORDS, N)


@pytest.fixture(autouse=True)
def no_claims(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of claims have nothing to do with retrieval and take seconds."""
    monkeypatch.setattr("vlm_gauntlet.leaderboard.site.write_claim_pages", lambda *_: None)


@pytest.fixture(scope="module")
def genuine(tmp_path_factory: pytest.TempPathFactory) -> RetrievalOutcome:
    """A small outcome that was really run."""
    made = run_retrieval(SETTING, tmp_path_factory.mktemp("genuine"))
    assert made.image_to_text.attacked != made.image_to_text.clean, "something to gain"
    return made


def record(outcome: RetrievalOutcome) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(outcome.model_dump_json())
    return found


@pytest.fixture
def judged(tmp_path: Path) -> Callable[..., Evidence]:
    """The evidence of records written into a folder."""

    def run(*records: dict[str, Any]) -> Evidence:
        (tmp_path / FOLDER).mkdir(exist_ok=True)
        for number, one in enumerate(records):
            (tmp_path / FOLDER / f"{number}.json").write_text(json.dumps(one))
        return gather(tmp_path, HERE)

    return run


def named(name: str) -> Forgery:
    return next(f for f in FORGERIES if f.name == name)


def test_there_are_enough_of_them_and_each_has_a_name() -> None:
    assert len({f.name for f in FORGERIES}) == len(FORGERIES) >= 45


def test_a_genuine_outcome_counts_and_comes_out_again(
    genuine: RetrievalOutcome, judged: Callable[..., Evidence]
) -> None:
    found = judged(record(genuine))
    assert found.retrieval == [genuine] and not found.aside and not found.unchecked(genuine)
    made = verify_retrieval(genuine, HERE, by="me")
    assert made.words == f"verified {N} of {N}" and made.by == "me" and made.bits_digest == genuine.bits_digest


@pytest.mark.parametrize("forgery", FORGERIES, ids=lambda f: f.name)
def test_a_forged_outcome_is_noticed(
    forgery: Forgery, genuine: RetrievalOutcome, judged: Callable[..., Evidence]
) -> None:
    forged = forgery.of(record(genuine))
    assert json.dumps(forged) != json.dumps(record(genuine))
    found = judged(forged)
    if forgery.fate == "aside":
        (aside,) = found.aside
        assert forgery.said in aside.reason and UNJUDGED not in aside.reason and not found.retrieval
    else:
        assert not found.aside
        assert verify_retrieval(found.retrieval[0], HERE).words.startswith("differs: ")


def test_bad_files_take_nothing_along(genuine: RetrievalOutcome, tmp_path: Path) -> None:
    """All of them beside the genuine one, with files that are no records, and the site of it."""
    journal = RetrievalJournal(tmp_path / "o")
    journal.write(genuine)
    bad = [f for f in FORGERIES if f.fate == "aside"]
    for number, forgery in enumerate(bad):
        (journal.folder / f"x{number}.json").write_text(json.dumps(forgery.of(record(genuine))))
    for name, content in {"cut": b'{"key": "', "list": b"[]", "deep": b"[" * 100_000, "empty": b""}.items():
        (journal.folder / f"{name}.json").write_bytes(content)
    found = gather(tmp_path / "o", HERE)
    assert found.retrieval == [genuine] and len(found.aside) == len(bad) + 4
    page = build_site(found, tmp_path / "site").parent / "retrieval.html"
    assert genuine.key in page.read_text() and "nobody recomputed it" in page.read_text()
    assert "cut.json" in (tmp_path / "site" / "index.html").read_text()
    assert "undefended" in retrieval_text(found.retrieval)


def test_one_outcome_under_two_names_counts_once(genuine: RetrievalOutcome, judged: Callable[..., Evidence]) -> None:
    found = judged(record(genuine), record(genuine))
    assert found.retrieval == [genuine]
    assert [a.reason for a in found.aside] == ["the same record as 0.json: it counts once"]


def test_two_results_of_one_key_are_both_set_aside(genuine: RetrievalOutcome, judged: Callable[..., Evidence]) -> None:
    found = judged(record(genuine), named("as if nothing had been attacked").of(record(genuine)))
    assert not found.retrieval and len(found.aside) == 2
    assert all("different results: 0.json, 1.json" in a.reason for a in found.aside)


def test_a_look_is_shown_and_one_that_differs_sets_aside(genuine: RetrievalOutcome, tmp_path: Path) -> None:
    journal = RetrievalJournal(tmp_path)
    journal.write(genuine)
    add(journal.folder, genuine.key, verify_retrieval(genuine, HERE, by="a referee"))
    found = gather(tmp_path, HERE)
    page = build_site(found, tmp_path / "site").parent / "retrieval.html"
    assert f"verified {N} of {N} on" in page.read_text() and "by a referee" in page.read_text()
    forged = RetrievalOutcome.model_validate_json(json.dumps(named("one rank lower").of(record(genuine))))
    journal.write(forged)
    assert gather(tmp_path, HERE).retrieval == [forged], "the look was at other ranks"
    add(journal.folder, forged.key, verify_retrieval(forged, HERE, by="a referee"))
    after = gather(tmp_path, HERE)
    assert not after.retrieval and "a referee recomputed it, and it differs" in after.aside[0].reason


ELSEWHERE = ("an invented digest of code", "a method that nobody has", "other data", "data that nobody has",
             "a backbone that nobody has", "an attack that nobody has", "a method without features",
             "other words")  # fmt: skip


@pytest.mark.parametrize("name", ELSEWHERE)
def test_what_cannot_be_verified_here_says_why(name: str, genuine: RetrievalOutcome) -> None:
    forged = RetrievalOutcome.model_validate_json(json.dumps(named(name).of(record(genuine))))
    with pytest.raises(CannotVerifyError, match="cannot verify here: ") as error:
        verify_retrieval(forged, HERE)
    assert error.value.fix


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_is_changed_gives_a_reason_or_a_consistent_record(
    data: st.DataObject, genuine: RetrievalOutcome, tmp_path_factory: pytest.TempPathFactory
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
    (folder / FOLDER).mkdir()
    text = json.dumps(rekeyed(forged))
    (folder / FOLDER / "forged.json").write_text(text, encoding="utf-8", errors="surrogatepass")
    found = gather(folder, HERE)
    assert len(found.aside) + len(found.retrieval) == 1
    assert not [a for a in found.aside if UNJUDGED in a.reason]
    assert not found.retrieval or retrieval_text(found.retrieval)
