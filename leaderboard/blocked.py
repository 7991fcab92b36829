"""What keeps claims from being checked, in groups: which fields their sources leave open, and what would lift it."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vlm_gauntlet.fixtures.known_datasets import known_datasets
from vlm_gauntlet.fixtures.reported import reported_protocol
from vlm_gauntlet.methods.claims import PERCENT, Claim

from .verdicts import readings_of

OTHER, RETRIEVAL, MEAN = "no accuracy", "retrieval", "a mean"
NO_N, FIELD = "samples not counted", "field"
LIFTS = {
    OTHER: "Times, ratios and differences are not measured here.",
    RETRIEVAL: "gauntlet retrieval attacks captions; its outcomes are compared with no claim yet.",
    MEAN: "Its cells are checked one by one, and the audit recomputes it.",
    NO_N: "Say n in the claim, or that the whole split was used in its protocol.",
    FIELD: "Read it in the paper or its code, and write it into fixtures/data/reported.",
}


@dataclass(frozen=True)
class Group:
    """Claims that one thing blocks.

    Args:
        blocker: what, in words; `field <name>` for a field of the protocol.
        claims: their ids. Several things may block one claim.
        alone: those that nothing else blocks: what lifting this alone would free.
        readable: those whose every open field has listed readings: outcomes under these give a word of sensitivity.
        sources: number of claims by source, most first.
        lift: what would free them.
    """

    blocker: str
    claims: tuple[str, ...]
    alone: tuple[str, ...]
    readable: tuple[str, ...]
    sources: tuple[tuple[str, int], ...]
    lift: str


def blockers(claim: Claim) -> list[str]:
    """Everything that keeps a claim from being compared, whatever is run; empty where an outcome would do."""
    reported = reported_protocol(claim.protocol)
    if claim.metric not in PERCENT:
        return [OTHER]
    if reported.retrieval:
        return [RETRIEVAL]
    if claim.dataset not in known_datasets().dataset:
        return [MEAN]
    found = [f"{FIELD} {name}" for name in reported.unknown_fields()]
    return found if claim.n is not None or reported.samples.startswith("whole") else [*found, NO_N]


def blocked(claims: Sequence[Claim]) -> list[Group]:
    """The groups, largest first."""
    of_claim = {claim.id: blockers(claim) for claim in claims}
    members: dict[str, list[Claim]] = defaultdict(list)
    for claim in claims:
        for blocker in of_claim[claim.id]:
            members[blocker].append(claim)
    return sorted(_groups(members, of_claim), key=lambda group: (-len(group.claims), group.blocker))


def _groups(members: dict[str, list[Claim]], of_claim: dict[str, list[str]]) -> Iterator[Group]:
    for blocker, theirs in members.items():
        alone = tuple(claim.id for claim in theirs if of_claim[claim.id] == [blocker])
        readable = tuple(claim.id for claim in theirs if readings_of(claim))
        sources = tuple(Counter(claim.source for claim in theirs).most_common())
        lift = LIFTS[FIELD if blocker.startswith(f"{FIELD} ") else blocker]
        yield Group(blocker, tuple(claim.id for claim in theirs), alone, readable, sources, lift)
