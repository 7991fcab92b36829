"""Attacks by name: their schemas, what they refuse, what records hold of them, and attacks from outside."""

from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_gauntlet.attacks.autoattack import APGDCE, APGDT
from vlm_gauntlet.attacks.multimodal.co_attack import CoAttack
from vlm_gauntlet.attacks.multimodal.dra import DRA
from vlm_gauntlet.attacks.multimodal.sga import SGA
from vlm_gauntlet.attacks.pgd import CWPGD, PGD
from vlm_gauntlet.attacks.protocols import protocol, protocols, varied
from vlm_gauntlet.attacks.registry import (
    as_reported,
    attack,
    attacks,
    build,
    choice,
    default_of,
    parameters,
    settable,
)  # fmt: skip
from vlm_gauntlet.attacks.text.rules import WordSwap
from vlm_gauntlet.fixtures.errors import GauntletError
from vlm_gauntlet.fixtures.protocols import AttackChoice, Protocol


def make(name: str = "pgd", threat: dict[str, object] | None = None, **fields: object) -> Protocol:
    budget = {"norm": "linf", "eps": "4/255", "knowledge": "white-box"} | (threat or {})
    given = choice(name, fields, where="protocol p")
    return Protocol.model_validate({"id": "p", "title": "t", "threat": budget, "attack": given})


def test_pgd_takes_every_parameter() -> None:
    asked = make(threat={"norm": "l2"}, steps=7, restarts=3, loss="dlr", selection="any-iterate", eot=4)
    assert build(asked) == PGD("l2", 4 / 255, 7, 0.25, 3, True, "dlr", "any-iterate", eot=4)
    weights = {"evasion": "1/2", "branches": "1/4", "kappa": "50", "momentum": "1"}
    asked = make(loss="cw", reduction="mean", precision="bf16", labels="pseudo", random_start=False, **weights)
    half, quarter = Fraction(1, 2), Fraction(1, 4)
    assert build(asked) == PGD(
        "linf", 4 / 255, random_start=False, loss="cw", evasion=half, branches=quarter, kappa=50, momentum=1,
        reduction="mean", precision="bf16", labels="pseudo",
    )  # fmt: skip


@pytest.mark.parametrize(("name", "kind"), [("apgd-ce", APGDCE), ("apgd-t", APGDT)])
def test_apgd(name: str, kind: type[APGDCE]) -> None:
    assert build(make(name, steps=30, restarts=2, eot=2)) == kind("linf", 4 / 255, steps=30, restarts=2, eot=2)


@pytest.mark.parametrize(("name", "kind"), [("co-attack", CoAttack), ("sga", SGA), ("dra", DRA)])
def test_attacks_on_pairs(name: str, kind: type[SGA]) -> None:
    made = build(protocol(f"{name}-char-1-transfer-linf-4-255"))
    size = Fraction(1, 8) if kind is CoAttack else Fraction(1, 4)
    assert made == kind("linf", 4 / 255, steps=10, step_size=size, text=WordSwap(source="characters"))


def test_no_attack() -> None:
    assert build(make("none", {"norm": "none", "eps": "0"})) is None


def test_cw_is_an_attack_of_its_own() -> None:
    assert build(make("cw-pgd")) == CWPGD("linf", 4 / 255)
    assert CWPGD("linf", 0.1).kappa == 50


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("apgd-c", {}, "did you mean apgd-ce"),
        ("pgd", {"loss": "margin"}, "pgd: loss: came 'margin'; expected 'ce'"),
        ("pgd", {"loss": "cw"}, "kappa = 0 with the loss cw"),
        ("pgd", {"loss": "boundary", "kappa": "50"}, "kappa = 50 with the loss boundary"),
        ("pgd", {"stepz": 3}, "unknown parameter of pgd 'stepz'(.|\n)*did you mean steps"),
        ("pgd", {"stop": True}, "unknown parameter of pgd 'stop'"),
        ("pgd", {"eps": "1/255"}, "unknown parameter of pgd 'eps'"),
        ("pgd", {"steps": -1}, "steps: came -1; expected greater than or equal to 0"),
        ("pgd", {"restarts": 0}, "restarts: "),
        ("pgd", {"eot": 0}, "eot: "),
        ("pgd", {"step_size": 0.25}, "step_size = 0.25 is a float; write an exact fraction"),
        ("pgd", {"step_size": "a"}, "step_size"),
        ("pgd", {"step_size": "1/0"}, "step_size"),
        ("pgd", {"momentum": "-1"}, "momentum"),
        ("cw-pgd", {"loss": "ce"}, "loss"),
        ("apgd-ce", {"momentum": "1"}, "momentum"),
        ("apgd-ce", {"evasion": "1"}, "evasion"),
        ("apgd-ce", {"reduction": "mean"}, "reduction: .*'sum'"),
        ("apgd-ce", {"precision": "amp-fp16"}, "unknown parameter of apgd-ce 'precision'"),
        ("apgd-ce", {"selection": "final"}, "selection"),
        ("apgd-ce", {"step_size": "1"}, "step_size"),
        ("apgd-t", {"loss": "ce"}, "loss"),
        ("fab-t", {"eot": 4}, "eot"),
        ("square", {"steps": 5}, "unknown parameter of square 'steps'"),
        ("rays", {"gradient": "backbone"}, "unknown parameter of rays 'gradient'"),
    ],
)
def test_what_an_attack_cannot_do_is_refused_in_one_clear_error(
    name: str, fields: dict[str, object], message: str
) -> None:
    with pytest.raises(GauntletError, match=message):
        make(name, **fields)


@pytest.mark.parametrize(
    ("name", "threat", "message"),
    [
        ("pgd", {"norm": "none"}, "norm of pgd"),
        ("square", {"norm": "l2"}, "norm of square"),
        ("pgd", {"modality": "both"}, "pgd with modality 'both'"),
    ],
)
def test_a_threat_model_that_an_attack_does_not_have(name: str, threat: dict[str, object], message: str) -> None:
    with pytest.raises(GauntletError, match=message):
        build(make(name, threat))


def test_the_list_of_attacks_tells_where_each_comes_from() -> None:
    assert {"bert-attack", "sep-attack", "joint", "cw-pgd"} <= attacks().keys()
    for name, kind in attacks().items():
        assert kind.info.name == name and kind.info.title and kind.info.norms
        # DRA is known here by its conference; the joint composition is ours
        assert "arXiv" in kind.info.source or kind.info.source == "Gao et al., ECCV 2024"


def test_records_hold_no_defaults_and_one_form_of_each_fraction() -> None:
    spelt_out = {name: default_of(PGD, name) for name in settable(PGD)}
    assert choice("pgd", {**spelt_out, "step_size": "2/8"}, where="t") == AttackChoice(name="pgd")
    assert choice("pgd", {"step_size": "2/20"}, where="t").parameters == {"step_size": "1/10"}
    assert make(steps=10).digest == make().digest != make(steps=11).digest


def test_a_new_parameter_changes_no_digest_until_it_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same class with one field more, as somebody will write it tomorrow."""
    from pydantic.dataclasses import dataclass

    from vlm_gauntlet.attacks.base import STRICT

    @dataclass(config=STRICT, kw_only=True)
    class Younger(PGD):
        info = PGD.info
        annealing: bool = False

    old = {name: p.digest for name, p in protocols().items()}
    monkeypatch.setitem(attacks(), "pgd", Younger)
    for name in ("pgd-10-transfer-linf-1-255", "pgd-20-evasion-adaptive-linf-4-255"):
        same = varied(protocols()[name], annealing=False)
        assert same.digest == old[name] and varied(same, annealing=True).digest != old[name]


PGD_PARAMETERS = st.fixed_dictionaries({}, optional={
    "steps": st.integers(0, 99), "restarts": st.integers(1, 9), "random_start": st.booleans(),
    "step_size": st.fractions(0, 2, max_denominator=99).map(str), "momentum": st.fractions(0, 2).map(str),
    "loss": st.sampled_from(["ce", "dlr", "boundary", "ce-targeted"]), "eot": st.integers(1, 20),
    "selection": st.sampled_from(["final", "any-iterate"]), "gradient": st.sampled_from(["direct", "unrolled"]),
})  # fmt: skip


@given(fields=PGD_PARAMETERS)
def test_what_is_recorded_builds_the_same_attack_again(fields: dict[str, object]) -> None:
    asked = make(**fields)
    again = Protocol.model_validate_json(asked.model_dump_json())
    assert again == asked and again.digest == asked.digest
    made = build(again)
    assert made == build(asked) and made is not None
    for name, value in parameters(again.attack).items():
        assert getattr(made, name) == value
        if name in fields:
            expected = fields[name]
            assert value == (Fraction(expected) if isinstance(value, Fraction) else expected)


def test_every_field_of_a_schema_is_compared_with_claims_or_marked() -> None:
    for name, kind in attacks().items():
        assert set(as_reported(kind).values()) | {"eot", "draws", "places"} >= set(settable(kind)), name


OUTSIDE = '''
from typing import Annotated
from pydantic import Field
from pydantic.dataclasses import dataclass
from vlm_gauntlet.attacks.base import STRICT, Attack, AttackInfo

@dataclass(config=STRICT)
class Grey(Attack):
    """Moves towards grey."""
    info = AttackInfo("grey", "towards grey", "nobody", ("linf",))
    strength: Annotated[int, Field(ge=1)] = 1

    def perturb(self, run):
        return run.images + (0.5 - run.images).clamp(-self.eps, self.eps) / self.strength

class NoInfo(Attack):
    def perturb(self, run):
        return run.images
'''


def test_an_attack_from_a_file_beside_its_protocol(tmp_path: Path) -> None:
    from vlm_gauntlet.attacks.protocols import read_protocols

    (tmp_path / "mine.py").write_text(OUTSIDE)
    path = tmp_path / "grey.toml"
    path.write_text(
        'title = "t"\nknowledge = ["black-box"]\neps = ["1/255", "4/255"]\n[threat]\nnorm = "linf"\n'
        '[attack]\nname = "mine.py:Grey"\nstrength = 2\n'
    )
    first, second = read_protocols(path)
    assert (first.id, second.id) == ("grey-black-box-linf-1-255", "grey-black-box-linf-4-255")
    made = build(second)
    assert made is not None and made.eps == 4 / 255 and made.strength == 2  # type: ignore[attr-defined]
    assert attack("mine.py:Grey").info.name == "grey"
    path.write_text(path.read_text().replace("strength = 2", "strength = 0"))
    with pytest.raises(GauntletError, match="strength"):
        read_protocols(path)
    elsewhere = tmp_path / "other" / "grey.toml"
    elsewhere.parent.mkdir()
    (elsewhere.parent / "mine.py").write_text(OUTSIDE)
    elsewhere.write_text(path.read_text().replace("strength = 0", "strength = 2"))
    with pytest.raises(GauntletError, match=r"two attacks called 'mine\.py:Grey'"):
        read_protocols(elsewhere)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing.here:Attack", "no attack at"),
        ("gone.py:Attack", "no attack at"),
        ("vlm_gauntlet.attacks.base:Attack", "is no attack"),
        ("vlm_gauntlet.attacks.pgd:fgsm", "is no attack"),
    ],
)
def test_an_address_without_an_attack_is_said(name: str, message: str) -> None:
    with pytest.raises(GauntletError, match=message):
        attack(name)


def test_a_record_of_an_attack_that_is_not_here_can_be_read() -> None:
    far = AttackChoice.model_validate({"name": "theirs.py:Far", "strength": 3, "table": {"x": "1/2"}})
    assert parameters(far) == {"strength": 3, "table": {"x": "1/2"}}
    asked = make().model_copy(update={"attack": far})
    assert Protocol.model_validate_json(asked.model_dump_json()) == asked
    with pytest.raises(GauntletError, match=r"no attack at 'theirs\.py:Far'"):
        build(asked)
