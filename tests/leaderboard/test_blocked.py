"""What blocks claims: each reason by a claim that has it, and agreement with the verdicts."""

import json
from collections import Counter

from typer.testing import CliRunner

from vlm_gauntlet.cli.main import app
from vlm_gauntlet.leaderboard.blocked import LIFTS, MEAN, NO_N, OTHER, RETRIEVAL, blocked, blockers
from vlm_gauntlet.leaderboard.verdicts import verdicts
from vlm_gauntlet.methods.claims import Claim, claims


def claim(**more: object) -> Claim:
    fields: dict[str, object] = {
        "method": "undefended", "source": "mmcoa", "table": "Table X", "row": "CLIP", "column": "C10", "value": "40.00",
        "backbone": "ViT-B/32", "trained_on": "none", "setting": "zero-shot", "dataset": "cifar10", "n": 5000,
        "protocol": "mmcoa-pgd-100", "metric": "accuracy", "tag": "paper",
    }  # fmt: skip
    return Claim(**(fields | more))  # type: ignore[arg-type]


def test_each_reason_has_its_name() -> None:
    assert blockers(claim()) == []
    assert blockers(claim(metric="ratio", value="2")) == [OTHER]
    assert blockers(claim(dataset="mmcoa-15")) == [MEAN]
    assert blockers(claim(protocol="fare-apgd-linf-1-255", n=None)) == [NO_N]
    assert blockers(claim(protocol="fare-clean", n=None)) == [], "the whole split says n"
    assert blockers(claim(protocol="sga-sga-transfer", dataset="flickr30k", metric="tr@1")) == [RETRIEVAL]


def test_fields_that_a_source_leaves_open_are_named_one_by_one() -> None:
    found = Counter(name for each in claims() for name in blockers(each) if name.startswith("field "))
    assert len(found) > 5 and all(name.removeprefix("field ") for name in found)


def test_groups_count_what_each_alone_would_free() -> None:
    one, both = (
        claim(column="1", protocol="fare-apgd-linf-1-255", n=None),
        claim(column="2", protocol="survey-pgd-10", n=None),
    )
    groups = {group.blocker: group for group in blocked([one, both, claim()])}
    counts = {name: (len(g.claims), len(g.alone)) for name, g in groups.items()}
    assert counts.pop(NO_N) == (2, 1) and counts.pop("field knowledge") == (1, 0)
    assert set(counts.values()) == {(1, 0)} and all(name.startswith("field ") for name in counts)
    assert groups[NO_N].sources == (("mmcoa", 2),) and groups[NO_N].lift == LIFTS[NO_N]


def test_what_is_blocked_is_what_no_outcome_makes_checkable() -> None:
    """Without outcomes nothing but n blocks a claim that is neither `not checkable` nor open in its readings."""
    judged = verdicts(claims(), [])
    for each in claims():
        named = [name for name in blockers(each) if name != NO_N]
        assert (judged[each.id].word in ("not checkable", "readings open")) == bool(named), each.id


def test_the_command_counts_and_its_json_is_whole() -> None:
    told = CliRunner().invoke(app, ["claims", "blocked"])
    assert told.exit_code == 0 and "what lifts it" in told.stdout and "wait for an outcome alone" in told.stdout
    groups = json.loads(CliRunner().invoke(app, ["claims", "blocked", "--source", "mmcoa", "--json"]).stdout)
    assert groups and {"blocker", "claims", "alone", "readable", "sources", "lift"} <= groups[0].keys()
