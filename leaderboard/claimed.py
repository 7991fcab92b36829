"""What sources claim of a line of the leaderboard, and how its claims came out."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from statistics import fmean

from vlm_gauntlet.fixtures.reported import ReportedProtocol, reported_protocol
from vlm_gauntlet.fixtures.sources import sources
from vlm_gauntlet.methods.claims import Claim
from vlm_gauntlet.methods.registry import methods

from .matching import BACKBONES
from .overall import Overall
from .verdicts import Verdict

Subject = tuple[str, str]  # method with its deviation, backbone of ours
Threat = tuple[str, Fraction, str]  # norm, eps, modality


@dataclass(frozen=True)
class Claimed:
    """What is claimed of a line under its threat model.

    Args:
        claims: the highest number of each data set, those of the method's own paper before those of others.
        mean: of these, as a fraction.
        drop: `mean` less our worst case over the same data sets; None where there is none to subtract.
        own: whether all of them stand in the method's own paper.
        of: data sets of the suite.
    """

    claims: tuple[Claim, ...]
    mean: float
    drop: float | None
    own: bool
    of: int


class ClaimIndex:
    """Claims with their verdicts, by what they speak of."""

    def __init__(self, claims: Sequence[Claim], judged: Mapping[str, Verdict]) -> None:
        self._attacked: dict[tuple[Subject, str, Threat], list[Claim]] = defaultdict(list)
        self._words: dict[Subject, Counter[str]] = defaultdict(Counter)
        self._methods: Counter[str] = Counter()
        for claim in claims:
            subject = (claim.method + (f"+{claim.variant}" if claim.variant else ""), BACKBONES.get(claim.backbone, ""))
            self._words[subject][judged[claim.id].word] += 1
            self._methods[claim.method] += 1
            threat = _threat(reported_protocol(claim.protocol))
            if threat and claim.metric == "accuracy":
                self._attacked[subject, claim.dataset, threat].append(claim)

    def words(self, line: Overall) -> Counter[str]:
        """How many claims about this method on this backbone have each verdict."""
        return self._words.get((line.first.method, line.first.backbone), Counter())

    def about(self, method: str) -> int:
        """How many claims there are about a method, on any backbone."""
        return self._methods[method.partition("+")[0]]

    def claimed(self, line: Overall) -> Claimed | None:
        """What is claimed of a line, where anything is; a list's own mean only where no data set has a number."""
        row = line.first
        threat = (row.threat.norm, row.threat.eps, row.threat.modality)
        subject = (row.method, row.backbone)
        found = {name: self._best(row.method, self._attacked.get((subject, name, threat), ())) for name in line.rows}
        chosen = {name: found[name] for name in line.suite.datasets if found.get(name)}
        whole = self._best(row.method, self._attacked.get((subject, line.suite.name, threat), ()))
        if not chosen and whole:
            drop = whole.number / 100 - line.worst.value if line.worst else None
            return Claimed((whole,), whole.number / 100, drop, is_own(whole), len(line.suite.datasets))
        claims = tuple(claim for claim in chosen.values() if claim)
        if not claims:
            return None
        mean = fmean(claim.number / 100 for claim in claims)
        worst = [line.rows[name].worst for name in chosen]
        left = [one.accuracy.value for one in worst if one]
        drop = mean - fmean(left) if len(left) == len(worst) else None
        return Claimed(claims, mean, drop, all(map(is_own, claims)), len(line.suite.datasets))

    @staticmethod
    def _best(method: str, known: Sequence[Claim]) -> Claim | None:
        return max(known, key=lambda claim: (is_own(claim), claim.number, claim.id), default=None)


def is_own(claim: Claim) -> bool:
    """Whether a claim stands in the paper of the method that it speaks of."""
    if claim.source == claim.method.replace("_", "-"):
        return True
    found = methods().get(claim.method)
    return found is not None and found.card.paper == sources()[claim.source].title


def _threat(reported: ReportedProtocol) -> Threat | None:
    """Norm, eps and modality of a reported attack; None for clean images, and where the source leaves one open."""
    if reported.clean or reported.retrieval or "unknown" in (reported.eps, reported.norm, reported.modality):
        return None
    return reported.norm, Fraction(reported.eps), reported.modality
