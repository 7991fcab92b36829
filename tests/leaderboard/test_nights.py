"""What changed between two nights, told the same way whenever it is told."""

from datetime import datetime
from pathlib import Path
from xml.etree import ElementTree as xml

import pytest
from typer.testing import CliRunner

from vlm_gauntlet.cli.main import app
from vlm_gauntlet.fixtures.records import Outcome
from vlm_gauntlet.leaderboard.evidence import Evidence
from vlm_gauntlet.leaderboard.nights import Night, night, pairs
from vlm_gauntlet.leaderboard.nights_page import ATOM, to_atom, to_markdown
from vlm_gauntlet.leaderboard.site import build_site

from .factory import MADE, outcome

APGD = "apgd-ce-white-box-linf-1-255"
CLEAN = "clean"
EVIL = "evil:<script>|&\"'[x](javascript:1)"
BEFORE = [
    outcome("1" * 20, age_days=1), outcome("1" * 20, APGD, age_days=1), outcome("10" * 10, method="ttc", age_days=1),
    outcome("1" * 20, CLEAN, age_days=1), outcome("11", method="gone", age_days=1),
]  # fmt: skip
AFTER = [
    outcome("0" * 20), outcome("1" * 19 + "0", APGD), outcome("10" * 10, method="ttc"), outcome("1" * 20, CLEAN),
    outcome("11", method=EVIL),
]  # fmt: skip


def test_each_cell_is_in_one_place() -> None:
    found = night(BEFORE, AFTER)
    assert [c.cell for c in found.changed] == ["tecoa-tiny-shapes-pgd-10-white-box-linf-1-255"]
    assert [c.cell for c in found.moved] == [f"tecoa-tiny-shapes-{APGD}"] and found.same == 2
    assert [c.cell.partition("-")[0] for c in found.vanished] == ["gone"]
    assert [c.cell[:5] for c in found.new] == ["evil:"] and found.made == MADE
    assert found.changed[0].words == "100.0 [83.9, 100.0] → 0.0 [0.0, 16.1]"
    assert found.sentence == "1 new, 1 vanished, 1 changed beyond the interval, 1 moved within it; 2 the same"


def test_the_newest_outcome_of_a_cell_counts() -> None:
    found = night([outcome("1" * 20)], [outcome("1" * 20), outcome("0" * 20, code="other", age_days=1)])
    assert found.same == 1 and not found.changed


def test_a_verdict_that_turns_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from vlm_gauntlet.leaderboard import nights
    from vlm_gauntlet.leaderboard.verdicts import Verdict
    from vlm_gauntlet.methods.claims import claims

    def judged(asked: object, outcomes: list[Outcome]) -> dict[str, Verdict]:
        fell = any(o.robust_accuracy == 0 for o in outcomes)
        return {"a": Verdict("a", "below claim" if fell else "reproduced", "why"), "b": Verdict("b", "not run", "")}

    monkeypatch.setattr(nights, "verdicts", judged)
    (flip,) = night(BEFORE, AFTER, claims()[:1]).flips
    assert (flip.claim, flip.before, flip.after, flip.reason) == ("a", "reproduced", "below claim", "why")
    assert "| a | reproduced | below claim | why |" in to_markdown(night(BEFORE, AFTER, claims()[:1]))


def test_the_feed_is_atom() -> None:
    feed = xml.fromstring(to_atom(night(BEFORE, AFTER)))
    assert feed.tag == f"{{{ATOM}}}feed"
    entries = feed.findall(f"{{{ATOM}}}entry")
    assert len(entries) == 2 and feed.find(f"{{{ATOM}}}author/{{{ATOM}}}name") is not None
    ids = []
    for part in [feed, *entries]:
        one = {name: [e.text for e in part.findall(f"{{{ATOM}}}{name}")] for name in ("id", "title", "updated")}
        assert all(len(found) == 1 and found[0] for found in one.values()), one
        assert datetime.fromisoformat(str(one["updated"][0])) == MADE
        ids.append(one["id"][0])
    assert len(set(ids)) == len(ids) and all(str(i).startswith("urn:uuid:") for i in ids)


def test_names_are_text_in_markdown() -> None:
    told = to_markdown(night(BEFORE, AFTER))
    assert "<script>" not in told and "](" not in told and "evil:&lt;script&gt;\\|&amp;" in told


def test_the_board_shows_it_and_the_same_nights_give_the_same_bytes(tmp_path: Path) -> None:
    def built(name: str, after: list[Outcome]) -> dict[str, bytes]:
        build_site(after, tmp_path / name, previous=Evidence(sound=BEFORE))
        return {str(p.relative_to(tmp_path / name)): p.read_bytes() for p in (tmp_path / name).rglob("*.*")}

    first = built("one", AFTER)
    assert first == built("two", AFTER[::-1])
    page = first["nights.html"].decode()
    assert (
        "changed beyond the interval" in page
        and "<script>" not in page
        and b'href="nights.html"' in first["index.html"]
    )
    build_site(AFTER, tmp_path / "one")
    assert not (tmp_path / "one" / "nights.html").exists()


def test_two_methods_on_the_same_samples() -> None:
    (pair,) = pairs("tecoa", "ttc", AFTER)
    assert pair.paired is not None and pair.paired.difference == -0.5 and pair.first.value == 0
    (other,) = pairs("tecoa", "ttc", [outcome("10"), outcome("1", method="ttc")])
    assert other.paired is None


def test_the_commands(tmp_path: Path) -> None:
    for name, outcomes in (("a", BEFORE), ("b", AFTER)):
        (tmp_path / name).mkdir()
        for one in outcomes:
            (tmp_path / name / f"{one.key}{name}.json").write_text(one.model_dump_json())

    def said(*arguments: object) -> str:
        result = CliRunner().invoke(app, [str(a) for a in arguments])
        assert result.exit_code == 0, result.stderr
        return result.stdout

    assert "1 changed beyond" in said("diff", tmp_path / "a", tmp_path / "b")
    assert said("diff", tmp_path / "a", tmp_path / "b", "--markdown").startswith("### Night of 02 January 2026")
    assert '"same": 2' in said("diff", tmp_path / "a", tmp_path / "b", "--json")
    lines = said("history", "tecoa", tmp_path / "a", tmp_path / "b").splitlines()
    assert len(lines) == 2 + 6 and "100.0 [83.9, 100.0]" in lines[-2] and "0.0 [0.0, 16.1]" in lines[-1]
    assert "-50.0" in said("compare", "tecoa", "ttc", "--outcomes", tmp_path / "b")
    unknown = CliRunner().invoke(app, ["compare", "teca", "ttc", "--outcomes", str(tmp_path / "b")])
    assert unknown.exit_code == 2 and "did you mean tecoa" in unknown.stderr


def test_an_empty_night_says_so() -> None:
    assert isinstance(found := night(AFTER, AFTER), Night) and found.sentence == "nothing is another; 5 the same"


def ids(feed: str) -> list[str | None]:
    return [one.text for one in xml.fromstring(feed).iter(f"{{{ATOM}}}id")]


def test_several_nights_in_any_order(tmp_path: Path) -> None:
    """The newest of them is the night before; a cell's page has all; ids of the feed stay as nights are added."""
    nights = [
        [outcome("1" * left + "0" * (20 - left), age_days=age)] for left, age in ((20, 3), (12, 2), (11, 1), (1, 0))
    ]
    first, second, third, tonight = nights
    told = [Evidence(sound=one) for one in (third, first, second)]
    site = build_site(tonight, tmp_path / "site", previous=told).parent
    page = (site / "nights.html").read_text()
    assert '">55.0 [' in page and '">5.0 [' in page, "against the newest night before"
    assert page.index("2026-01-01 03:04") < page.index("2025-12-31 03:04") and "2025-12-30" not in page
    (cell,) = (site / "cells").rglob("*.html")
    text = cell.read_text()
    assert text.count("of a night before") == 3 and "of 4 outcomes, oldest first, from 100.0 to 5.0" in text
    assert 'd="M0.0 1.0L33.3 8.2L66.7 9.1L100.0 18.1"' in text
    now = ids((site / "nights.xml").read_text())
    assert len(now) == len({*now}) and set(ids(to_atom(night(second, third)))) < {*now}
    other = night(second, [*third, outcome("1", method="ttc", age_days=5)])
    assert ids(to_atom(other)) == ids(to_atom(night(second, third))), "more words about a night are the same entry"
