"""How far the order of methods on an embedded backbone is that of papers on real CLIP: Spearman's rank correlation.

Ours is the column T0; theirs are numbers of one source, for one attack, budget and backbone, averaged over the data
sets that it reports for the most of our methods. The undefended model counts as attacked on itself, as T0 means.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from itertools import permutations
from statistics import fmean

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from vlm_gauntlet.attacks.levels import level
from vlm_gauntlet.attacks.protocols import protocols
from vlm_gauntlet.fixtures.reported import ReportedProtocol, reported_protocol
from vlm_gauntlet.methods.claims import Claim
from vlm_gauntlet.suites.mini_claims import MiniClaim

from .comparison import ALPHA
from .rows import Row

UNDEFENDED = "undefended"
# Fewer methods than this, and even the very same order is no evidence: 1 of 3! orders is more than 5 %.
FEWEST = next(n for n in range(2, 9) if 1 / math.factorial(n) < ALPHA)
EXACT = 8  # methods up to which all orders are counted; beyond, DRAWN of them
DRAWN = 20000

Values = NDArray[np.float64]
Place = tuple[str, str, Fraction]  # backbone, data set, eps
Reported = tuple[str, str, Fraction, str]  # source, backbone, eps, attack


@dataclass(frozen=True)
class Direction:
    """One table of ours beside one of a source.

    Args:
        backbone, dataset, eps, n: ours; n is the least number of samples of its methods.
        source, real_backbone, real_eps, attack: theirs; `datasets` are averaged.
        methods: (name, ours, theirs), accuracies as fractions, best of theirs first. A variant stands for its method
            where it has more samples.
        rho: Spearman's rank correlation over the methods, ties by their mean rank; None where one side has one value.
        p: share of all orders of the methods that agree as well or better: one-sided, exact.
    """

    backbone: str
    dataset: str
    eps: Fraction
    n: int
    source: str
    real_backbone: str
    real_eps: Fraction
    attack: str
    datasets: tuple[str, ...]
    methods: tuple[tuple[str, float, float], ...]
    rho: float | None
    p: float | None


def directions(ours: Mapping[Place, Mapping[str, tuple[float, int]]], claims: Sequence[Claim]) -> list[Direction]:
    """Each of our tables against each table of a source with enough methods in common.

    Budgets must be equal; a backbone that nobody attacked at any budget of a source is compared with each of them, as
    its own stands for them.

    Args:
        ours: backbone, data set and eps -> method -> (T0 as a fraction, n), by `t0_of_rows` or `t0_of_frozen`.
        claims: what sources report.
    """
    theirs = _reported(claims, {_stem(method) for table in ours.values() for method in table})
    real_budgets = {eps for _, _, eps, _ in theirs}
    stand_ins = {b for b, _, _ in ours} - {b for b, _, eps in ours if eps in real_budgets}
    found = []
    for (backbone, dataset, eps), variants in sorted(ours.items()):
        table = _one_each(variants)
        for (source, real, real_eps, attack), numbers in sorted(theirs.items()):
            if eps != real_eps and backbone not in stand_ins:
                continue
            datasets, values = _shared(numbers, table)
            if len(values) < FEWEST:
                continue
            pairs = tuple(
                (table[m], variants[table[m]][0], values[m]) for m in sorted(values, key=lambda m: -values[m])
            )
            rho, p = agreement([o for _, o, _ in pairs], [t for _, _, t in pairs])
            n = min(variants[name][1] for name, _, _ in pairs)
            found.append(Direction(backbone, dataset, eps, n, source, real, real_eps, attack, datasets, pairs, rho, p))
    return found


def _stem(method: str) -> str:
    return method.partition("+")[0]


def _one_each(variants: Mapping[str, tuple[float, int]]) -> dict[str, str]:
    """Method -> the variant that stands for it: the one with most samples, the plain one where several have as many."""
    found: dict[str, str] = {}
    for name in sorted(variants, key=lambda v: (variants[v][1], v.count("+") == 0)):
        found[_stem(name)] = name
    return found


def agreement(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float | None, float | None]:
    """Spearman's rank correlation and its one-sided permutation p-value; None for both where one side has one value.

    Args:
        ours, theirs: [methods], in the same order; at least 2.
    """
    mine, other = (rankdata(values) - (len(values) + 1) / 2 for values in (ours, theirs))
    scale = float(np.sqrt((mine**2).sum() * (other**2).sum()))
    if not scale:
        return None, None
    seen = float(mine @ other)
    chance = mine[_orders(len(mine))] @ other
    return seen / scale, float(np.mean(chance >= seen - 1e-9))


@cache
def _orders(n: int) -> NDArray[np.int64]:
    """All orders of n things, [n!, n]; many drawn ones where those are too many, the given one among them."""
    if n <= EXACT:
        return np.array([*permutations(range(n))])
    draws = np.random.default_rng(0)
    return np.stack([np.arange(n), *(draws.permutation(n) for _ in range(DRAWN - 1))])


def t0_of_rows(rows: Iterable[Row]) -> dict[Place, dict[str, tuple[float, int]]]:
    """The column T0 of a board's tables of attacks on images."""
    found: dict[Place, dict[str, tuple[float, int]]] = defaultdict(dict)
    for row in sorted(rows, key=lambda r: -r.seed):  # the first seed has the last word
        value = row.under("T0")
        if value and row.threat.modality == "image" and not row.control:
            found[row.backbone, row.dataset, row.threat.eps][row.method] = (value.value, value.n)
    return dict(found)


def t0_of_frozen(frozen: Iterable[MiniClaim]) -> dict[Place, dict[str, tuple[float, int]]]:
    """The same of our frozen outcomes: of each method the transferred attack that leaves least, as papers count."""
    found: dict[Place, dict[str, tuple[float, int]]] = defaultdict(dict)
    for one in frozen:
        protocol = protocols().get(one.protocol)
        if protocol is None or level(protocol) != "T0" or protocol.threat.modality != "image":
            continue
        table = found[one.backbone, one.dataset, protocol.threat.eps]
        table[one.method] = min(table.get(one.method, (2.0, 0)), (fmean(one.fractions), len(one.fractions)))
    return dict(found)


def _reported(claims: Sequence[Claim], methods: set[str]) -> dict[Reported, dict[str, dict[str, float]]]:
    """Sources' numbers of transferred attacks on images: table -> data set -> method -> accuracy as a fraction."""
    found: dict[Reported, dict[str, dict[str, list[float]]]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(list))
    )
    for claim in claims:
        reported = reported_protocol(claim.protocol)
        if claim.method in methods and _is_transfer(claim, reported):
            attack = "+".join(c.attack for c in reported.components)
            key = (claim.source, claim.backbone, Fraction(reported.eps), attack)
            found[key][claim.dataset][claim.method].append(claim.number / 100)
    return {
        key: {data: {m: fmean(values) for m, values in table.items()} for data, table in tables.items()}
        for key, tables in found.items()
    }


def _is_transfer(claim: Claim, reported: ReportedProtocol) -> bool:
    """Whether a claim is about images made on the undefended model; what a source leaves open is taken for it."""
    if claim.metric != "accuracy" or claim.variant or reported.retrieval or reported.clean:
        return False
    known = ("transfer", "unknown", *(("white-box",) if claim.method == UNDEFENDED else ()))
    return reported.modality == "image" and reported.knowledge in known and reported.eps != "unknown"


def _shared(
    numbers: Mapping[str, Mapping[str, float]], ours: Iterable[str]
) -> tuple[tuple[str, ...], dict[str, float]]:
    """The data sets that a source reports for the most of our methods, and each method's mean over them."""
    mine = set(ours)
    having: Callable[[str], frozenset[str]] = lambda data: frozenset(numbers[data].keys() & mine)  # noqa: E731
    best = max(map(having, sorted(numbers)), key=lambda methods: (len(methods), sorted(methods)))
    datasets = tuple(data for data in sorted(numbers) if having(data) >= best)
    return datasets, {m: fmean(numbers[data][m] for data in datasets) for m in best}
