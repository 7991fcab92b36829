"""Claims under every reading of what their source leaves open: no verdicts, and never stronger than the answers."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_gauntlet.fixtures.errors import GauntletError
from vlm_gauntlet.fixtures.records import Cell, Outcome
from vlm_gauntlet.fixtures.reported import (
    MOST_READINGS,
    Reading,
    read_family,
    readings,
    reported_protocol,
    reported_protocols,
)
from vlm_gauntlet.leaderboard.blocked import blocked
from vlm_gauntlet.leaderboard.claimed import ClaimIndex
from vlm_gauntlet.leaderboard.exchange import TESTED
from vlm_gauntlet.leaderboard.in_a_sentence import holds
from vlm_gauntlet.leaderboard.missing import lacks
from vlm_gauntlet.leaderboard.sensitivity import DEPENDS, EVERY, NONE, OPEN, WORDS, sensitivity
from vlm_gauntlet.leaderboard.verdicts import Plain, verdicts
from vlm_gauntlet.methods.claims import Claim, claims
from vlm_gauntlet.suites.runnable import protocols_named, runnable

from .factory import outcome
from .test_verdicts import CLIP, claim, run

PLAIN = ("reproduced", "below claim", "above claim", "inconclusive", "failed", "not run", "not checkable")
SILENT = ("inconclusive", "failed", "not run", "not checkable")
NAMES = [f"precision={p}+pgd.restarts={r}" for p in ("amp-fp16", "fp32") for r in (1, 5)]
ANSWERS = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(PLAIN), min_size=1)
READ = "tga-zsr-apgd-linf-1-255"


@given(ANSWERS, st.randoms())
def test_the_order_of_readings_changes_nothing(words: dict[str, str], draws: object) -> None:
    shuffled = list(words.items())
    draws.shuffle(shuffled)  # type: ignore[attr-defined]
    assert sensitivity(dict(shuffled)) == sensitivity(words)


@given(ANSWERS, st.data())
def test_a_missing_reading_never_makes_the_word_stronger(words: dict[str, str], data: st.DataObject) -> None:
    missing = data.draw(st.sampled_from(sorted(words)))
    less, _ = sensitivity(words | {missing: data.draw(st.sampled_from(SILENT))})
    assert less in (OPEN, sensitivity(words)[0]) and less in (OPEN, DEPENDS)


@given(ANSWERS)
def test_the_words_are_what_the_answers_are(words: dict[str, str]) -> None:
    found, reason = sensitivity(words)
    given_, missed = "reproduced" in words.values(), {"below claim", "above claim"} & set(words.values())
    silent = set(SILENT) & set(words.values())
    assert (found == DEPENDS) == bool(given_ and missed)
    assert (found == EVERY) == (set(words.values()) == {"reproduced"})
    assert (found == NONE) == (bool(missed) and not given_ and not silent)
    answered = [word for word in words.values() if word not in SILENT]
    assert all(reason.count(word) >= answered.count(word) for word in answered) and reason[-1] == "."
    quiet = len(words) - len(answered)
    assert quiet < 2 or f"and {quiet - 1} more without an answer" in reason


def test_it_depends_on_the_field_that_decides() -> None:
    words = dict(zip(NAMES, ("reproduced", "reproduced", "below claim", "below claim"), strict=True))
    assert sensitivity(words)[1].startswith("It depends on precision, which the source leaves open: ")
    words[NAMES[1]] = "below claim"
    assert "on pgd.restarts and precision, " in sensitivity(words)[1]


@pytest.fixture
def two_ways(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    known = reported_protocol("mmcoa-pgd-100")
    (attack,) = known.components
    ways = (Reading(field="pgd.restarts", values=(1, 2), reason="a family of two settings"),)
    left_open = known.model_copy(
        update={"id": "open", "components": (attack.model_copy(update={"restarts": "unknown"}),), "readings": ways}
    )
    monkeypatch.setitem(reported_protocols(), "open", left_open)
    readings.cache_clear()
    yield "open"
    readings.cache_clear()


def under(way: str, right: int, of: Claim) -> Outcome:
    (protocol,) = runnable(reported_protocol(way), of.dataset).protocols
    made = outcome("1" * right + "0" * (5000 - right), method=of.method, backbone=CLIP, dataset=of.dataset)
    fresh = Cell.model_validate({**made.cell.model_dump(), "protocol": protocol, "limit": 5000})
    return made.model_copy(update={"cell": fresh, "key": fresh.key})


@pytest.mark.parametrize(("first", "second", "word"), [
    (2000, 2005, EVERY), (1500, 1700, NONE), (2500, 1700, NONE), (2000, 1500, DEPENDS), (2000, None, OPEN),
    (None, None, OPEN),
])  # fmt: skip
def test_each_reading_is_judged_by_its_own_outcome(
    two_ways: str, first: int | None, second: int | None, word: str
) -> None:
    of = claim(protocol=two_ways)
    rights = {f"{two_ways}+pgd.restarts={n}": right for n, right in ((1, first), (2, second)) if right is not None}
    found = verdicts([of], [under(way, right, of) for way, right in rights.items()])[of.id]
    assert found.word == word
    assert [name for name, _ in found.readings] == [f"{two_ways}+pgd.restarts={n}" for n in (1, 2)]
    assert {name for name, one in found.readings if one.observed} == set(rights)
    assert (f"--protocol {two_ways}+pgd.restarts=2" in found.command) == (second is None)
    assert found.comparison is None and found.q is None and (lacks(found) is not None) == (word == OPEN)


def test_a_word_of_sensitivity_is_counted_nowhere_as_a_verdict(two_ways: str) -> None:
    plain, read = claim(column="plain", dataset="stl10"), claim(column="read", protocol=two_ways)
    alone = verdicts([plain], [run(1905, 5000, of=plain)])[plain.id]
    both = [under(f"{two_ways}+pgd.restarts={n}", 2000, read) for n in (1, 2)]
    judged = verdicts([plain, read], [run(1905, 5000, of=plain), *both])
    assert judged[read.id].word == EVERY and judged[plain.id] == alone, "its tests change no p-value of a verdict"
    assert not set(WORDS) & {*TESTED, *Plain.__args__}  # type: ignore[attr-defined]
    assert holds([], {read.id: judged[read.id]}).startswith("no claim of a paper could be tested")
    (words,) = ClaimIndex([read], judged)._words.values()
    assert words == {EVERY: 1}


def test_without_a_number_of_samples_no_reading_is_tried(two_ways: str) -> None:
    of = claim(protocol=two_ways, n=None)
    assert verdicts([of], [])[of.id].word == OPEN, "its samples are the whole split"
    few = reported_protocols()[two_ways].model_copy(update={"samples": "1000 of a shuffle"})
    reported_protocols()[two_ways] = few
    readings.cache_clear()
    assert verdicts([of], [])[of.id].word == "not checkable"


def test_what_the_sources_leave_open_is_listed_with_its_claims() -> None:
    groups = {group.blocker: group for group in blocked(claims())}
    some = {of for group in groups.values() for of in group.readable}
    judged = verdicts(claims(), [])
    assert some == {of for of, found in judged.items() if found.word == OPEN} and len(some) > 50
    assert set(groups["field precision"].readable) <= set(groups["field precision"].claims)


def test_a_reading_is_a_protocol_by_its_name() -> None:
    name = f"{READ}+precision=fp32"
    assert reported_protocol(name).precision == "fp32" and reported_protocol(name).unknown_fields() == []
    ours = protocols_named(name, "cifar10")
    assert [p.id for p in ours] == [f"{name}:apgd-ce", f"{name}:apgd-dlr"]
    for wrong in (f"{READ}+precision=fp64", f"{READ}+colour=red", "mmcoa-pgd-100+precision=fp32"):
        with pytest.raises(GauntletError, match="unknown reported protocol"):
            reported_protocol(wrong)


BASE = """norm = "linf"
eps = "1/255"
modality = "image"
knowledge = "transfer"
attack_resolution = "model"
prompts = "generic"
preprocessing = "resize-224-bicubic-crop"
samples = "whole test split"
quantised = false
readings = [{readings}]
[protocol.x]
title = "x"
[[protocol.x.components]]
attack = "pgd"
steps = 10
step_size = "1"
random_start = true
loss = "ce"
restarts = 1
reduction = "sum"
"""
WAY = '{{ field = "{0}", values = [{1}], reason = "two settings are known" }}'.format
PRECISION, SELECTION = WAY("precision", '"fp32", "amp-fp16"'), WAY("pgd.selection", '"final", "any-iterate"')


@pytest.mark.parametrize(("ways", "said"), [
    ([PRECISION], "with which no protocol here is known"),
    ([PRECISION, SELECTION, WAY("pgd.steps", "1, 2")], "'pgd.steps', with which no protocol"),
    ([PRECISION, PRECISION, SELECTION], "two readings of 'precision'"),
    ([WAY("precision", '"fp32"'), WAY("pgd.selection", '"final"')], "can be read in 1 ways"),
    ([WAY("precision", '"fp32", "fp32"'), WAY("pgd.selection", '"final"')], "can be read in 1 ways"),
    ([WAY("precision", '"fp33", "fp32"'), SELECTION], "precision"),
    ([WAY("precision", '"unknown", "fp32"'), SELECTION], "leaves it open"),
])  # fmt: skip
def test_a_reading_that_cannot_be_is_one_clear_error(tmp_path: Path, ways: list[str], said: str) -> None:
    path = tmp_path / "x.toml"
    path.write_text(BASE.format(readings=", ".join(ways)))
    with pytest.raises(GauntletError, match=said) as caught:
        read_family(path)
    assert str(path) in caught.value.where


@pytest.mark.parametrize("turned", [lambda ways: ways, lambda ways: ways[::-1]])
def test_every_combination_is_one_protocol(tmp_path: Path, turned: Callable[[list[str]], list[str]]) -> None:
    path = tmp_path / "x.toml"
    path.write_text(BASE.format(readings=", ".join(turned([PRECISION, SELECTION]))))
    (one,) = read_family(path)
    found = one.read_in_every_way()
    assert [way.id for way in found] == [
        f"x+pgd.selection={s}+precision={p}" for s in ("any-iterate", "final") for p in ("amp-fp16", "fp32")
    ]
    assert {(way.precision, way.components[0].selection) for way in found} == {
        (p, s) for p in ("fp32", "amp-fp16") for s in ("final", "any-iterate")
    }
    assert not any(way.unknown_fields() for way in found) and len(found) <= MOST_READINGS


def test_each_attack_of_an_ensemble_is_read_by_itself() -> None:
    ways = readings("fare-imagenet-apgd-linf-2-255").values()
    assert {tuple(c.restarts for c in way.components) for way in ways} == {(1, 1), (1, 5), (5, 1), (5, 5)}
    assert not any(way.unknown_fields() for name in reported_protocols() for way in readings(name).values())
