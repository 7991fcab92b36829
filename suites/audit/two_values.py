"""The same quantity printed at two places with two values: within a source, across sources, and for plain CLIP."""

from collections.abc import Hashable, Iterator, Sequence

from vlm_gauntlet.methods.claims import Claim

from .finding import Finding, Severity, finding
from .places import accuracies, attacks, budget, grouped, model, protocol_of

LARGE = 1.0  # points; below it, prompts and resizing explain a difference between sources


def _steps(claim: Claim) -> tuple[Hashable, ...]:
    return tuple(sorted((c.attack, str(c.steps)) for c in protocol_of(claim).components))


def two_values(claims: Sequence[Claim]) -> Iterator[Finding]:
    """Quantities of one model, data set and attack whose printed values differ by more than their rounding."""
    printed = [c for c in accuracies(claims) if not protocol_of(c).unknown_attack]
    for same in grouped(printed, lambda c: (c.source, c.protocol, model(c), c.dataset)):
        if _apart(same):
            yield _finding("two-values", "error", same, "One source prints this quantity with different values")
    for same in grouped(printed, lambda c: (model(c), c.dataset, attacks(c), _steps(c), budget(c)[:4])):
        if len({c.source for c in same}) > 1 and _apart(same):
            plain = same[0].method == "undefended"
            far = max(c.number for c in same) - min(c.number for c in same) >= LARGE
            words = "Sources disagree about undefended CLIP" if plain else "Sources disagree about this number"
            severity: Severity = "warning" if far else "note"
            yield _finding("undefended-disagrees" if plain else "sources-disagree", severity, same, words)


def _apart(same: Sequence[Claim]) -> bool:
    low, high = min(same, key=lambda c: c.number), max(same, key=lambda c: c.number)
    return high.number - low.number > low.rounding + high.rounding + 1e-9


def _finding(rule: str, severity: Severity, same: Sequence[Claim], words: str) -> Finding:
    values = [c.number for c in same]
    first = same[0]
    attack = " + ".join(attacks(first)) or "no attack"
    places = "; ".join(f"{c.value} ({c.source} {c.table})" for c in same)
    sentence = f"{words}: {first.method}{' ' + first.variant if first.variant else ''}, {first.backbone}, "
    sentence += f"{first.dataset}, {attack}: there is no single number to reproduce."
    return finding(rule, severity, same, f"{places}: {max(values) - min(values):.2f} points apart", sentence)
