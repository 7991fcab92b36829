"""From a protocol to the attack that it asks for."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction

from vlm_gauntlet.fixtures.errors import GauntletError, unknown_name
from vlm_gauntlet.fixtures.protocols import Protocol

from .autoattack import APGDCE, APGDDLR, APGDT
from .base import Attack
from .ensembles import Ensemble, fare, randomised, standard, tecoa
from .fab import FABT
from .losses import LOSSES, TARGETED
from .multimodal.ascent import PairAscent
from .multimodal.co_attack import CoAttack
from .multimodal.dra import DRA
from .multimodal.sga import SGA
from .noise import Noise
from .pgd import PGD, RESTING
from .rays import RayS
from .square import Square

ALWAYS = {"reduction": "sum", "precision": "fp32", "evasion": 0, "branches": 0, "kappa": 0, "momentum": 0}
PAIRED = {
    **ALWAYS,
    "loss": "none",
    "selection": "final",
    "random_start": True,
    "restarts": 1,
    "eot": 1,
    "labels": "true",
}
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
    if protocol.loss not in (known := [*LOSSES, *TARGETED, *RESTING]):
        raise unknown_name("loss", protocol.loss, known, f"protocol {protocol.id}")
    if (protocol.kappa > 0) != (protocol.loss == "cw"):
        raise GauntletError(
            f"kappa = {protocol.kappa} with the loss {protocol.loss}", expected="kappa above 0 with cw, else 0",
            where=f"protocol {protocol.id}", fix="cw rests at a margin of kappa; at 0 it is called boundary",
        )  # fmt: skip
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
        branches=float(protocol.branches),
        kappa=float(protocol.kappa),
        momentum=float(protocol.momentum),
        reduction=protocol.reduction,
    )


def _apgd(kind: type[APGDCE] | type[APGDDLR] | type[APGDT]) -> Callable[[Protocol, int], Attack]:
    def make(protocol: Protocol, eot: int) -> Attack:
        eps = float(protocol.threat.eps)
        return kind(protocol.threat.norm, eps, steps=protocol.steps, restarts=protocol.restarts, eot=eot)

    return make


def _fab(protocol: Protocol, eot: int) -> Attack:
    return FABT(protocol.threat.norm, float(protocol.threat.eps), steps=protocol.steps)


def _ensemble(recipe: Callable[[Ensemble, int], dict[str, Attack]]) -> Callable[[Protocol, int], Attack]:
    def make(protocol: Protocol, eot: int) -> Attack:
        return Ensemble(protocol.threat.norm, float(protocol.threat.eps), recipe, steps=protocol.steps, eot=eot)

    return make


def _paired(kind: type[PairAscent]) -> Callable[[Protocol, int], Attack]:
    def make(protocol: Protocol, eot: int) -> Attack:
        if protocol.threat.modality != "both":
            raise GauntletError(
                f"{protocol.attack} with modality {protocol.threat.modality!r}", expected="modality both, and [text]",
                where=f"protocol {protocol.id}", fix="it attacks images with an eye on their sentences; give both",
            )  # fmt: skip
        eps, step_size = float(protocol.threat.eps), float(protocol.step_size)
        return kind(protocol.threat.norm, eps, steps=protocol.steps, step_size=step_size)

    return make


_INFOS = (
    AttackInfo(
        "pgd",
        "Projected gradient descent; without random start it is BIM, in one full step FGSM, with momentum MI-FGSM",
        "Madry et al. 2018, arXiv:1706.06083",
        ("linf", "l2"),
        {},
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
        "apgd-dlr",
        "Auto-PGD on the difference of logits ratio",
        "Croce and Hein 2020, arXiv:2003.01690",
        ("linf", "l2"),
        {**APGD, "loss": "dlr"},
        _apgd(APGDDLR),
    ),
    AttackInfo(
        "fab-t",
        "Minimal-norm steps to the boundary of up to 9 classes, the third part of AutoAttack",
        "Croce and Hein 2020, arXiv:1907.02044",
        ("linf", "l2"),
        {**ALWAYS, "loss": "none", "selection": "any-iterate", "random_start": False, "restarts": 1, "eot": 1},
        _fab,
    ),
    AttackInfo(
        "aa-standard",
        "AutoAttack standard: APGD-CE, APGD-T, FAB-T, Square, each on what still stands",
        "Croce and Hein 2020, arXiv:2003.01690",
        ("linf",),
        {**APGD, "loss": "none", "restarts": 1, "eot": 1},
        _ensemble(standard),
    ),
    AttackInfo(
        "aa-rand",
        "AutoAttack rand: APGD-CE and APGD-DLR with gradients averaged over draws",
        "Croce and Hein 2020, arXiv:2003.01690",
        ("linf", "l2"),
        {**APGD, "loss": "none", "restarts": 1},
        _ensemble(randomised),
    ),
    AttackInfo(
        "aa-fare",
        "What FARE calls AutoAttack: APGD-CE with 5 restarts, then APGD-T",
        "Schlarmann et al. 2024, arXiv:2402.12336",
        ("linf", "l2"),
        {**APGD, "loss": "none", "restarts": 1, "eot": 1},
        _ensemble(fare),
    ),
    AttackInfo(
        "aa-tecoa",
        "What TeCoA and TTC call AutoAttack: APGD-CE, then APGD-DLR",
        "Mao et al. 2023, arXiv:2212.07016",
        ("linf", "l2"),
        {**APGD, "loss": "none", "restarts": 1, "eot": 1},
        _ensemble(tecoa),
    ),
    AttackInfo(
        "square",
        "Random search with squares on the margin: needs logits only, the fourth part of AutoAttack",
        "Andriushchenko et al. 2020, arXiv:1912.00049",
        ("linf",),
        {**ALWAYS, "loss": "margin", "selection": "any-iterate", "random_start": True, "restarts": 1},
        lambda protocol, _: Square(protocol.threat.norm, float(protocol.threat.eps), queries=protocol.steps),
    ),
    AttackInfo(
        "noise",
        "The worst of a few random starts: a control, what an attack does without its gradient",
        "after Athalye et al. 2018, arXiv:1802.00420, section 3.1",
        ("linf",),
        {**ALWAYS, "loss": "margin", "selection": "any-iterate", "random_start": True, "restarts": 1},
        lambda protocol, _: Noise(protocol.threat.norm, float(protocol.threat.eps), queries=protocol.steps),
    ),
    AttackInfo(
        "rays",
        "Search for the sign direction with the nearest boundary: needs the class only",
        "Chen and Gu 2020, arXiv:2006.12792",
        ("linf",),
        {**ALWAYS, "loss": "none", "selection": "any-iterate", "random_start": False, "restarts": 1},
        lambda protocol, _: RayS(protocol.threat.norm, float(protocol.threat.eps), queries=protocol.steps),
    ),
    AttackInfo(
        "co-attack",
        "Images driven away from themselves and from their attacked sentence, in the tower's features",
        "Zhang et al. 2022, arXiv:2206.09391",
        ("linf",),
        PAIRED,
        _paired(CoAttack),
    ),
    AttackInfo(
        "sga",
        "Images and their scaled copies driven away from all their attacked sentences, in the tower's features",
        "Lu et al. 2023, arXiv:2307.14061",
        ("linf",),
        PAIRED,
        _paired(SGA),
    ),
    AttackInfo(
        "dra",
        "SGA whose gradients are taken between the clean image and the last two iterates, in the tower's features",
        "Gao et al., ECCV 2024",
        ("linf",),
        PAIRED,
        _paired(DRA),
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
    attack = info.make(protocol, 1 if deterministic else protocol.eot)
    if isinstance(attack, PGD):
        attack.stop = deterministic
    return attack
