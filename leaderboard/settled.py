"""Which cells would settle a claim, or let a row rank; and what blocks the other claims, whatever is run."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from vlm_gauntlet.fixtures.errors import GauntletError
from vlm_gauntlet.fixtures.natural_sets import set_of
from vlm_gauntlet.fixtures.reported import reported_protocol
from vlm_gauntlet.fixtures.stand_in import in_place_of
from vlm_gauntlet.methods.card import Card
from vlm_gauntlet.methods.claims import Claim
from vlm_gauntlet.methods.registry import methods
from vlm_gauntlet.suites.cells import CellPlan, plan
from vlm_gauntlet.suites.planning.budget import Question
from vlm_gauntlet.suites.planning.sizes import size_of
from vlm_gauntlet.suites.planning.work import key_of

from .comparison import samples_needed
from .matching import BACKBONES
from .ranking import NEEDED, promised
from .rows import TEST_TIME
from .verdicts import needs_spread, readings_of, verdicts, whole

PLAIN, SENSITIVE = ("claim", 1.0), ("sensitivity", 0.5)  # kind of question, and what an answer is worth
WHOLE_SET = 1_000_000  # a limit that no test set reaches: only so does a run show that it took all


@dataclass(frozen=True)
class Settling:
    """What claims ask for.

    Args:
        questions: one for each claim that a run can settle.
        cells: what they need, each once, with the largest limit that one of them wants.
        blocked: claim id -> why no run here settles it.
    """

    questions: tuple[Question, ...]
    cells: tuple[CellPlan, ...]
    blocked: dict[str, str]


def claim_questions(
    claims: Sequence[Claim], backbone: str, *, seed: int, device: str, batch_size: int, trained: bool
) -> Settling:
    """What would settle these claims on a backbone.

    Args:
        claims: what sources report.
        backbone: as a run names it; claims on others are blocked.
        seed, device, batch_size: of the cells.
        trained: plan as if every checkpoint were here, and the spread over trainings known.
    """
    blocked: dict[str, str] = {}
    wanted: dict[tuple[str, str, str], CellPlan] = {}
    needs: dict[str, list[tuple[str, str, str]]] = {}
    untried = verdicts(claims, [])
    for claim in claims:
        if not untried[claim.id].command:
            blocked[claim.id] = untried[claim.id].reason
        elif reason := _blocked(claim, backbone, trained):
            blocked[claim.id] = reason
        else:
            try:
                cells = _cells(claim, backbone, seed=seed, device=device, batch_size=batch_size)
            except GauntletError as error:
                blocked[claim.id] = f"{error.came}."
                continue
            places = []
            for cell in cells:
                place = (cell.method.label, cell.dataset_name, cell.protocol.digest)
                known = wanted.get(place)
                wanted[place] = cell if known is None else replace(known, limit=max(known.limit, cell.limit))
                places.append(place)
            needs[claim.id] = places
    questions = [
        Question(c, kind, frozenset(key_of(wanted[p]) for p in places), value)
        for c, places in needs.items()
        for kind, value in [PLAIN if untried[c].word == "not run" else SENSITIVE]
    ]
    return Settling(tuple(questions), tuple(wanted.values()), blocked)


def _blocked(claim: Claim, backbone: str, trained: bool) -> str:
    card = methods()[claim.method].card
    if not in_place_of(backbone, BACKBONES[claim.backbone]):
        return f"It is about {claim.backbone}, this plan about {backbone}."
    if claim.n is None and not whole(claim) and not readings_of(claim):
        return "The source does not say on how many samples it measured."
    if not trained and lacks_checkpoint(card, backbone):
        return "No checkpoint for this backbone is here (--trained plans as if there were)."
    if not trained and needs_spread(claim, backbone):
        return "It was trained again here, and nobody measured how much trainings differ."
    size = size_of(claim.dataset).samples
    if size is None:
        return "How many samples the test set has is written down nowhere here."
    needed = samples_needed(claim.number / 100, claim.n or size)
    if needed is None or needed > size:
        return "Its test set is too small to tell 3 points from chance."
    return ""


def lacks_checkpoint(card: Card, backbone: str) -> bool:
    """Whether a method needs weights that nobody has made for a backbone: its cells would say `not run`."""
    return bool(card.weights) and backbone not in card.weights


def _cells(claim: Claim, backbone: str, **same: object) -> list[CellPlan]:
    """What a verdict needs, or a word of sensitivity: the cells of every reading."""
    needed = samples_needed(claim.number / 100, claim.n) if claim.n else None
    name = claim.method + (f"+{claim.variant}" if claim.variant else "")
    limit = WHOLE_SET if needed is None else needed
    asked = [one.protocol for one in readings_of(claim)] or [claim.protocol]
    taken = set_of(reported_protocol(claim.protocol).samples, claim.dataset)
    return plan([name], backbone, [taken], asked, limit=limit, **same)  # type: ignore[arg-type]


def row_questions(cells: Iterable[CellPlan], seconds: dict[str, float]) -> list[Question]:
    """One question for each row of attacked images that these cells can let rank: the cheapest cells that do.

    The gradient attack is one that watches its own budget, where there is one: a row whose attacker has not converged
    is an upper bound. Of a test-time defence he has to know it, else the row is masked.
    """
    rows: dict[tuple[str, str, str, Fraction], list[CellPlan]] = defaultdict(list)
    clean: dict[tuple[str, str], CellPlan] = {}
    for cell in cells:
        threat = cell.protocol.threat
        if threat.knowledge == "none":
            clean[cell.method.label, cell.dataset_name] = cell
        elif threat.modality == "image" and 0 < threat.eps < 1:
            rows[cell.method.label, cell.dataset_name, threat.norm, threat.eps].append(cell)
    found = []
    for (method, dataset, norm, eps), members in sorted(rows.items(), key=lambda item: (*item[0][:3], item[0][3])):
        chosen = _cheapest(members, seconds, adaptive=members[0].method.card.paradigm in TEST_TIME)
        if chosen is not None:
            needed = [*chosen, *([own] if (own := clean.get((method, dataset))) else [])]
            name = f"{method} on {dataset}, {norm} {eps}"
            found.append(Question(name, "row", frozenset(map(key_of, needed))))
    return found


def _cheapest(members: Sequence[CellPlan], seconds: dict[str, float], *, adaptive: bool) -> list[CellPlan] | None:
    """Cells that hold evidence of every kind, one kind after the other; None where a kind is missing."""
    kinds = {key_of(cell): promised(cell.protocol) for cell in members}
    chosen: dict[str, CellPlan] = {}
    for kind in NEEDED:
        if any(kind in kinds[key] for key in chosen):
            continue
        able = [cell for cell in members if kind in kinds[key_of(cell)] and key_of(cell) in seconds]
        if kind == "gradient" and adaptive:
            able = [cell for cell in able if cell.protocol.threat.knowledge == "adaptive"]
        if not able:
            return None
        watched = [cell for cell in able if cell.protocol.attack.name == "adaptive-ensemble" and kind == "gradient"]
        best = min(watched or able, key=lambda cell: (seconds[key_of(cell)], cell.id))
        chosen[key_of(best)] = best
    return list(chosen.values())
