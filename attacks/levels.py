"""How far an attacker goes: the levels T0 to T3 of the tables."""

from vlm_gauntlet.fixtures.protocols import Protocol

from .registry import attacks, build

LEVELS = {
    "T0": "transferred from the undefended backbone, the papers' protocol for test-time defences",
    "T1": "gradients through the defence, its surrogate or its backbone",
    "T2": "made for this defence: inner steps unrolled, gate evaded, branches attacked, stops at the boundary, targets",
    "T3": "no gradients: logits or labels of the defence alone, by query",
}
BY_KNOWLEDGE = {"none": "", "transfer": "T0", "black-box": "T3", "white-box": "T1", "adaptive": "T1"}


def level(protocol: Protocol) -> str:
    """`T0` to `T3`, or empty where nobody attacks. An attack that is not here counts by its knowledge alone."""
    if protocol.threat.knowledge == "adaptive" and protocol.attack.name in attacks():
        made = build(protocol)
        if made is not None and made.tailored:
            return "T2"
    return BY_KNOWLEDGE[protocol.threat.knowledge]
