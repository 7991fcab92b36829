"""Orders that cannot be: a stronger attack, a larger budget or a second modality that helps the defender."""

from collections.abc import Callable, Iterator, Sequence

from vlm_gauntlet.methods.claims import Claim

from .finding import Finding, finding
from .places import APGD, PGD, accuracies, attacks, budget, eps_of, grouped, model, protocol_of, where

Weaker = Callable[[Claim, Claim], bool]


def orders(claims: Sequence[Claim]) -> Iterator[Finding]:
    """Pairs of one model and data set in one source where the harder test has the higher accuracy."""
    printed = accuracies(claims)
    for same in grouped(printed, lambda c: (c.source, model(c), c.dataset)):
        for easy in same:
            for hard in same:
                if hard.number <= easy.number and not (hard.number == easy.number and _clean(easy)):
                    continue
                for rule, words, harder in ORDERS:
                    if harder(easy, hard) and hard.number - easy.number > _slack(easy, hard, rule):
                        yield _order(rule, words, easy, hard)


def _slack(easy: Claim, hard: Claim, rule: str) -> float:
    return -1e-9 if rule == "robust-not-below-clean" else easy.rounding + hard.rounding + 1e-9


def _clean(claim: Claim) -> bool:
    return protocol_of(claim).clean


def _multimodal(easy: Claim, hard: Claim) -> bool:
    one, two = protocol_of(easy), protocol_of(hard)
    same_budget = (one.norm, one.eps, one.knowledge) == (two.norm, two.eps, two.knowledge)
    return easy.table == hard.table and same_budget and (one.modality, two.modality) == ("image", "both")


def _autoattack(easy: Claim, hard: Claim) -> bool:
    stronger = set(attacks(hard)) <= set(APGD) and "apgd-ce" in attacks(hard)  # APGD-DLR alone may be weaker
    return stronger and attacks(easy) == PGD and budget(easy) == budget(hard)


def _robust(easy: Claim, hard: Claim) -> bool:
    return _clean(easy) and not _clean(hard) and hard.number > 1


def _more_budget(easy: Claim, hard: Claim) -> bool:
    small, large = eps_of(easy), eps_of(hard)
    if not small or not large or _clean(easy) or _clean(hard):
        return False
    same = attacks(easy) == attacks(hard) and budget(easy)[2:] == budget(hard)[2:]
    return same and large > small and protocol_of(easy).norm == protocol_of(hard).norm


ORDERS: tuple[tuple[str, str, Weaker], ...] = (
    ("multimodal-above-image", "An attack on image and text leaves more than one on the image alone", _multimodal),
    ("autoattack-above-pgd", "AutoAttack leaves more than plain PGD", _autoattack),
    ("robust-not-below-clean", "Attacked images are classified no worse than clean ones", _robust),
    ("more-budget-more-accuracy", "A larger budget leaves more accuracy", _more_budget),
)


def _order(rule: str, words: str, easy: Claim, hard: Claim) -> Finding:
    return finding(
        rule, "error", [hard, easy],
        f"{hard.column} {hard.value} > {easy.column} {easy.value} ({hard.number - easy.number:+.2f})"
        if hard.number > easy.number else f"{hard.column} {hard.value} = {easy.column} {easy.value}",
        f"{words}: {where(hard)}. The attacker could have used the easier test's images: he did not attack this model "
        "as hard as he could, or the attack leaks the label.",
    )  # fmt: skip
