"""Which claims speak of the same thing: one model, one row of a table, one kind of attack."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from fractions import Fraction

from vlm_gauntlet.fixtures.reported import ReportedProtocol, reported_protocol
from vlm_gauntlet.methods.claims import Claim

APGD = ("apgd-ce", "apgd-dlr", "apgd-t", "fab-t", "square")
PGD = ("pgd",)
Tables = Mapping[tuple[str, ...], Sequence[Claim]]


def protocol_of(claim: Claim) -> ReportedProtocol:
    """The claim's protocol."""
    return reported_protocol(claim.protocol)


def model(claim: Claim) -> tuple[str, ...]:
    """The model that a claim speaks of, as far as its source tells."""
    return (claim.method, claim.variant, claim.backbone, claim.trained_on, claim.shots)


def in_table(claim: Claim) -> tuple[str, ...]:
    """The model within one table, under one protocol."""
    return (claim.source, claim.table, *model(claim), claim.protocol, claim.metric)


def attacks(claim: Claim) -> tuple[str, ...]:
    """Names of the attacks of a claim's protocol, sorted; empty for clean accuracy."""
    return tuple(sorted(c.attack for c in protocol_of(claim).components))


def budget(claim: Claim) -> tuple[Hashable, ...]:
    """What the attacker may do, apart from the attack."""
    protocol = protocol_of(claim)
    return (protocol.norm, protocol.eps, protocol.modality, protocol.knowledge, protocol.attack_resolution)


def eps_of(claim: Claim) -> Fraction | None:
    """The budget, or None where the source does not say."""
    eps = protocol_of(claim).eps
    return eps if isinstance(eps, Fraction) else None


def grouped(claims: Iterable[Claim], key: Callable[[Claim], Hashable]) -> list[list[Claim]]:
    """Claims with the same key together, in order of appearance."""
    groups: dict[Hashable, list[Claim]] = defaultdict(list)
    for claim in claims:
        groups[key(claim)].append(claim)
    return list(groups.values())


def accuracies(claims: Iterable[Claim]) -> list[Claim]:
    """Claims of accuracy."""
    return [c for c in claims if c.metric == "accuracy"]


def tables(claims: Iterable[Claim]) -> Tables:
    """Claims by `in_table`, which every printed mean looks its cells up in."""
    return {in_table(group[0]): group for group in grouped(claims, in_table)}


def row_of(total: Claim, printed: Tables) -> list[Claim] | None:
    """The claims that a printed mean averages, in the order of its list; None where some are not printed there."""
    candidates = printed.get(in_table(total), ())
    found = []
    for name in total.mean_over:
        here = [c for c in candidates if c.dataset == name]
        if len(here) > 1:
            here = [c for c in here if c.row == total.row]
        if len(here) != 1:
            return None
        found.append(here[0])
    return found or None


def mean(claims: Sequence[Claim]) -> float:
    """Mean of what claims print."""
    return sum(c.number for c in claims) / len(claims)


def where(claim: Claim) -> str:
    """A claim's place in words."""
    return f"{claim.source}, {claim.table}, {claim.row}, {claim.column}"
