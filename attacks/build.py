"""From a protocol to the attack that it asks for."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction

from vlm_gauntlet.fixtures.errors import GauntletError, unknown_name
from vlm_gauntlet.fixtures.protocols import Protocol

from .autoattack import APGDCE, APGDT
from .base import Attack
from .losses import LOSSES
from .pgd import PGD
from .square import Square

ALWAYS = {"reduction": "sum", "precision": "fp32"}
APGD = {**ALWAYS, "step_size": Fraction(2), "random_start": True, "selection": "any-iterate"}


@dataclass(frozen=True)
class AttackInfo:
    """One attack that a protocol can name.

    Args:
        name: the value of a protocol's `attack`.
        title: what it does.
        source: the paper.
        norms: the balls it knows.
        fixed: protocol fields that it cannot vary, with their values.
        make: (protocol, eot) -> attack.
    """

    name: str
    title: str
    source: str
    norms: tuple[str, ...]
    fixed: Mapping[str, object]
    make: Callable[[Protocol, int], Attack]


def _pgd(protocol: Protocol, eot: int) -> Attack:
    if protocol.loss not in LOSSES:
        raise unknown_name("loss", protocol.loss, LOSSES, f"protocol {protocol.id}")
    return PGD(
        protocol.threat.norm,
        float(protocol.threat.eps),
        steps=protocol.steps,
        step_size=float(protocol.step_size),
        restarts=protocol.restarts,
        random_start=protocol.random_start,
        loss=protocol.loss,
        selection=protocol.selection,
        eot=eot,
        evasion=float(protocol.evasion),
    )


def _apgd(kind: type[APGDCE] | type[APGDT]) -> Callable[[Protocol, int], Attack]:
    def make(protocol: Protocol, eot: int) -> Attack:
        eps = float(protocol.threat.eps)
        return kind(protocol.threat.norm, eps, steps=protocol.steps, restarts=protocol.restarts, eot=eot)

    return make


_INFOS = (
    AttackInfo(
        "pgd",
        "Projected gradient descent; one full step without random start is FGSM",
        "Madry et al. 2018, arXiv:1706.06083",
        ("linf", "l2"),
        ALWAYS,
        _pgd,
    ),
    AttackInfo(
        "apgd-ce",
        "Auto-PGD on the cross-entropy, the first part of AutoAttack",
        "Croce and Hein 2020, arXiv:2003.01690",
        ("linf", "l2"),
        {**APGD, "loss": "ce"},
        _apgd(APGDCE),
    ),
    AttackInfo(
        "apgd-t",
        "Auto-PGD on the targeted DLR loss for up to 9 classes, the second part of AutoAttack",
        "Croce and Hein 2020, arXiv:2003.01690",
        ("linf", "l2"),
        {**APGD, "loss": "dlr-targeted"},
        _apgd(APGDT),
    ),
    AttackInfo(
        "square",
        "Random search with squares on the margin: needs logits only, the fourth part of AutoAttack",
        "Andriushchenko et al. 2020, arXiv:1912.00049",
        ("linf",),
        {**ALWAYS, "loss": "margin", "selection": "any-iterate", "random_start": True, "restarts": 1},
        lambda protocol, _: Square(protocol.threat.norm, float(protocol.threat.eps), queries=protocol.steps),
    ),
)
ATTACKS: dict[str, AttackInfo] = {info.name: info for info in _INFOS}


def build_attack(protocol: Protocol, *, deterministic: bool) -> Attack | None:
    """The attack on images of a protocol; None where it attacks none.

    Args:
        protocol: the evaluation.
        deterministic: the victim draws nothing, so that averaging gradients over draws would only cost.

    Raises:
        GauntletError: unknown attack, or a setting that this attack cannot honour.
    """
    if protocol.attack == "none" or protocol.threat.modality == "text":
        return None
    if protocol.attack not in ATTACKS:
        raise unknown_name("attack", protocol.attack, [*ATTACKS, "none"], f"protocol {protocol.id}")
    info = ATTACKS[protocol.attack]
    if protocol.threat.norm not in info.norms:
        raise unknown_name(f"norm of {info.name}", protocol.threat.norm, info.norms, f"protocol {protocol.id}")
    for name, value in info.fixed.items():
        if (given := getattr(protocol, name)) != value:
            raise GauntletError(
                f"{name} = {given}", expected=f"{name} = {value}, the only one that {info.name} has",
                where=f"protocol {protocol.id}", fix=f"set it, so that the protocol says what {info.name} does",
            )  # fmt: skip
    return info.make(protocol, 1 if deterministic else protocol.eot)
