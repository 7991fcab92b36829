"""Every printed mean and difference, calculated again from the cells beside it."""

from collections.abc import Iterator, Sequence

from vlm_gauntlet.methods.claims import Claim

from .finding import Finding, finding
from .places import accuracies, grouped, mean, row_of, tables, where

HAIR = 1e-9


def means(claims: Sequence[Claim]) -> Iterator[Finding]:
    """Printed means that their own row does not give, beyond what rounding allows."""
    printed = accuracies(claims)
    by_table = tables(printed)
    for total in printed:
        if not total.mean_over or not (members := row_of(total, by_table)):
            continue
        value = mean(members)
        slack = total.rounding + sum(m.rounding for m in members) / len(members)
        if abs(value - total.number) > slack + HAIR:
            yield finding(
                "mean", "error", [total, *members],
                f"printed {total.value}; its {len(members)} cells give {value:.3f}; off by {total.number - value:+.2f}",
                f"The mean that {where(total)} prints is not the mean of its row.",
            )  # fmt: skip


def _column(claim: Claim) -> tuple[str, ...]:
    return (claim.source, claim.table, claim.column, claim.dataset, claim.protocol)


def differences(claims: Sequence[Claim]) -> Iterator[Finding]:
    """Printed differences that the two rows do not give."""
    columns = {_column(group[0]): group for group in grouped(accuracies(claims), _column)}
    for delta in (c for c in claims if c.metric == "accuracy difference" and c.minus):
        same = columns.get(_column(delta), [])
        own = [c for c in same if c.method == delta.method]
        others = [c for c in same if c.method != delta.method and delta.minus in ("best", c.method)]
        if len(own) != 1 or not others:
            continue
        reference = max(others, key=lambda c: c.number)
        value = own[0].number - reference.number
        if abs(value - delta.number) > delta.rounding + own[0].rounding + reference.rounding + HAIR:
            yield finding(
                "difference", "error", [delta, own[0], reference],
                f"printed {delta.value}; {own[0].value} - {reference.value} = {value:+.2f}",
                f"The difference that {where(delta)} prints is not the difference of the two rows.",
            )  # fmt: skip
