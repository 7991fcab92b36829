"""Means over `zero-shot` sets that silently include the training set."""

from collections.abc import Iterator, Sequence

from vlm_gauntlet.methods.claims import Claim

from .finding import Finding, finding
from .places import accuracies, grouped, mean, row_of, tables, where


def training_set_in_mean(claims: Sequence[Claim]) -> Iterator[Finding]:
    """Every row of a table whose mean counts the data set that the table's models were trained on."""
    printed = accuracies(claims)
    by_table = tables(printed)
    totals = [c for c in printed if c.mean_over]
    for table in grouped(totals, lambda c: (c.source, c.table, c.dataset)):
        trained = {c.trained_on for c in table} & set(table[0].mean_over)
        if len(trained) != 1:
            continue
        (source_set,) = trained
        for total in table:
            members = row_of(total, by_table)
            targets = [c for c in members or [] if c.dataset != source_set]
            said = (
                f"printed {total.value} over {len(total.mean_over)} sets; {mean(targets):.2f} over the "
                f"{len(targets)} without {source_set}"
                if targets
                else f"printed {total.value}; {source_set} is one of its {len(total.mean_over)} sets"
            )
            yield finding(
                "training-set-in-mean", "note", [total, *(c for c in members or [] if c.dataset == source_set)], said,
                f"The mean of {where(total)} counts {source_set}, the training set of its table, as zero-shot.",
            )  # fmt: skip
