"""Protocols become the attacks that they describe, or an error; nothing is dropped on the way."""

import pytest

from vlm_gauntlet.attacks.autoattack import APGDCE, APGDT
from vlm_gauntlet.attacks.build import ATTACKS, build_attack
from vlm_gauntlet.attacks.multimodal.co_attack import CoAttack
from vlm_gauntlet.attacks.multimodal.dra import DRA
from vlm_gauntlet.attacks.multimodal.sga import SGA
from vlm_gauntlet.attacks.pgd import PGD
from vlm_gauntlet.fixtures.errors import GauntletError
from vlm_gauntlet.fixtures.protocols import Protocol, protocols


def make(**fields):
    threat = {"norm": "linf", "eps": "4/255", "knowledge": "white-box"} | fields.pop("threat", {})
    pgd = {"id": "p", "title": "t", "attack": "pgd", "steps": 7, "step_size": "1/4", "loss": "ce"}
    return Protocol.model_validate({**pgd, **fields, "threat": threat})


APGD = {"step_size": "2", "random_start": True, "selection": "any-iterate", "steps": 30, "restarts": 2}


def test_pgd_takes_every_field():
    protocol = make(restarts=3, random_start=True, loss="dlr", selection="any-iterate", eot=4, threat={"norm": "l2"})
    expected = PGD("l2", 4 / 255, 7, 0.25, 3, True, "dlr", "any-iterate", 4)
    assert build_attack(protocol, deterministic=False) == expected
    protocol = make(loss="cw", kappa=50, momentum=1, evasion="1/2", branches="1/4", reduction="mean")
    weights = {"evasion": 0.5, "branches": 0.25, "kappa": 50, "momentum": 1}
    expected = PGD("linf", 4 / 255, 7, 0.25, 1, False, "cw", **weights, reduction="mean", stop=True)
    assert build_attack(protocol, deterministic=True) == expected


def test_a_deterministic_victim_is_not_averaged():
    assert build_attack(make(eot=4), deterministic=True).eot == 1
    assert build_attack(make(eot=4), deterministic=False).eot == 4


@pytest.mark.parametrize(("attack", "loss", "kind"), [("apgd-ce", "ce", APGDCE), ("apgd-t", "dlr-targeted", APGDT)])
def test_apgd(attack, loss, kind):
    built = build_attack(make(attack=attack, loss=loss, eot=2, **APGD), deterministic=False)
    assert built == kind("linf", 4 / 255, steps=30, restarts=2, eot=2)


@pytest.mark.parametrize(("name", "kind"), [("co-attack", CoAttack), ("sga", SGA), ("dra", DRA)])
def test_attacks_on_pairs(name, kind):
    assert build_attack(protocols()[f"{name}-char-1-transfer-linf-4-255"], deterministic=True) == kind(
        "linf", 4 / 255, steps=10, step_size=0.125 if kind is CoAttack else 0.25
    )


def test_no_attack():
    assert build_attack(make(attack="none", threat={"norm": "none", "eps": "0"}), deterministic=True) is None


@pytest.mark.parametrize("name", protocols())
def test_every_protocol_in_the_house_can_be_built(name):
    protocol = protocols()[name]
    attack = build_attack(protocol, deterministic=False)
    assert (attack is None) == (protocol.attack in ("none", "bert-attack"))
    if attack is not None:
        assert attack.eps == float(protocol.threat.eps)
        assert (
            getattr(attack, "queries" if protocol.attack in ("noise", "square", "rays") else "steps") == protocol.steps
        )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"attack": "apgd-c"}, "did you mean apgd-ce"),
        ({"loss": "margin"}, "unknown loss .margin."),
        ({"loss": "cw"}, "kappa = 0 with the loss cw"),
        ({"loss": "boundary", "kappa": 50}, "kappa = 50 with the loss boundary"),
        ({"attack": "apgd-ce", **APGD, "momentum": 1}, "momentum = 1"),
        ({"attack": "apgd-ce", **APGD, "evasion": 1}, "evasion = 1"),
        ({"attack": "apgd-ce", **APGD, "branches": 1}, "branches = 1"),
        ({"attack": "apgd-ce", **APGD, "reduction": "mean"}, "reduction = mean"),
        ({"attack": "apgd-ce", **APGD, "precision": "amp-fp16"}, "precision = amp-fp16"),
        ({"attack": "apgd-ce", **APGD, "selection": "final"}, "selection = final"),
        ({"attack": "apgd-t", **APGD}, "loss = ce"),
        ({"threat": {"norm": "none"}}, "norm of pgd"),
    ],
)
def test_what_cannot_be_honoured_is_refused(fields, message):
    with pytest.raises(GauntletError, match=message):
        build_attack(make(**fields), deterministic=True)


def test_the_list_of_attacks_tells_where_each_comes_from():
    for name, info in ATTACKS.items():
        assert info.name == name and info.title and info.norms
        assert "arXiv" in info.source or info.source == "Gao et al., ECCV 2024"  # known here by its conference
