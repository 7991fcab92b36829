"""From outcomes to rows: one row is a method under a threat model on a data set."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import Literal

from vlm_gauntlet.attacks.levels import level
from vlm_gauntlet.fixtures.errors import GauntletError
from vlm_gauntlet.fixtures.protocols import ThreatModel
from vlm_gauntlet.fixtures.records import Outcome
from vlm_gauntlet.methods.card import Card
from vlm_gauntlet.suites.described import described

from .beaten import Beaten, Convergence, beaten, convergence
from .flags import (
    NOISE,
    UNBOUNDED,
    Flag,
    black_box_beats_white_box,
    gradients_mislead,
    indicator_flags,
    label_leak,
    more_budget_more_accuracy,
    noise_suffices,
    nothing_climbs,
    recipe,
    unanswered,
    unbounded_attack_fails,
)
from .ranking import missing
from .statistics import Estimate, mean_of
from .worst_case import WorstCase, by_strength, different_samples, scored_fractions, worst_case

State = Literal["valid", "upper bound", "masked", "transfer only", "not comparable", "no attack", "unknown here"]
Block = tuple[str, str, str, Fraction, str, str]
Place = tuple[str, str, str, int, str, str, str, Fraction]  # a row's, down to resolution and eps
MODALITIES = ("image", "text", "both")  # the order of the tables
TEST_TIME = ("training-free", "test-time-adaptation", "external")


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Args:
        state: `valid`, the only one that ranks; `upper bound`: attacks are missing that could break more, or the
            strongest had not converged; `masked`: a red flag that no adaptive attack answered; `transfer only`:
            nobody attacked the defence itself with gradients; `not comparable`: the attacks saw different samples;
            `no attack`; `unknown here`: made by code, for a method or on data that are not those of this board
            (`evidence.py`).
        outcomes: newest version only, weakest attacker first.
        columns: attacker's level -> worst case over the attacks that have it; for `T0` the papers' number, which
            counts the attacked image alone, under the protocol that hurts most.
        worst: over the attacks of all levels; None where nobody attacked with gradients or samples differ.
        missing: what an `upper bound` lacks, in words.
        left_out: outcomes of the same cell ids made by other code, data or limits.
        beaten: by whom; None where nobody takes a sample, or samples differ.
        convergence: of the budget; None where no attack watches its own.
    """

    method: str
    backbone: str
    dataset: str
    threat: ThreatModel
    seed: int
    state: State
    outcomes: tuple[Outcome, ...]
    clean: Estimate
    columns: dict[str, Estimate]
    worst: WorstCase | None
    flags: tuple[Flag, ...]
    masked_by: tuple[Flag, ...]
    problem: str
    left_out: int
    missing: tuple[str, ...] = ()
    beaten: Beaten | None = None
    convergence: Convergence | None = None

    @property
    def block(self) -> Block:
        """The table that the row belongs to: backbone, data set and threat model."""
        t = self.threat
        return (self.backbone, self.dataset, t.norm, t.eps, t.modality, t.attack_resolution)

    @property
    def control(self) -> bool:
        """A budget whose right answer is known: zero changes nothing, an unbounded one breaks everything."""
        return self.threat.norm != "none" and (self.threat.harmless or self.threat.eps >= UNBOUNDED)

    @property
    def rank(self) -> tuple[int, float, float, str, int]:
        """Sort key: valid rows by worst case, best first; the others cannot rank and follow."""
        value = self.worst.accuracy.value if self.worst and self.state == "valid" else 0.0
        return (self.state != "valid", -value, -self.clean.value, self.method, self.seed)

    def under(self, level: str) -> Estimate | None:
        """The column of this level, `T0` to `T3`; None where there is no such attack or samples differ."""
        return self.columns.get(level)

    @property
    def card(self) -> Card | None:
        """The method's card, if the method is registered here."""
        return card_of(self.method)

    @property
    def passes(self) -> float:
        """Image-encoder passes (forward and backward) that the defence takes for one prediction."""
        first = self.outcomes[0]
        passes: float = (first.defence_cost.forward + first.defence_cost.backward) / first.n
        return passes

    @property
    def attack_passes(self) -> float:
        """Image-encoder passes that all attacks of the row took together, for one sample."""
        passes: float = sum((o.attack_cost.forward + o.attack_cost.backward) / o.n for o in self.outcomes)
        return passes


@cache
def card_of(name: str) -> Card | None:
    """The card behind a registered name, or None: a name in a record never makes the board import or run a file."""
    if ":" in name:
        return None
    try:
        return described(name).card
    except GauntletError:
        return None


def _version(outcome: Outcome) -> tuple[str, ...]:
    cell = outcome.cell
    return (cell.method_digest, cell.backbone_digest, cell.dataset_digest, cell.prompts_digest, cell.code_digest)


def _newest(group: Sequence[Outcome]) -> list[Outcome]:
    """The newest version of a group, one outcome a protocol, on the largest limit that every protocol was run with.

    Without such a limit each protocol has its largest: the row then says that it is not comparable, rather than
    leave out an attack.
    """
    latest = _version(max(group, key=lambda o: (o.provenance.made, o.key)))
    by_limit: dict[int, dict[str, Outcome]] = defaultdict(dict)
    for outcome in sorted(group, key=lambda o: (o.provenance.made, o.key)):
        if _version(outcome) == latest:
            by_limit[outcome.cell.limit][outcome.cell.protocol.id] = outcome
    largest = {p: o for _, found in sorted(by_limit.items()) for p, o in found.items()}
    whole = [limit for limit, found in by_limit.items() if found.keys() == largest.keys()]
    return by_strength(list((by_limit[max(whole)] if whole else largest).values()))


def _column(level: str, chosen: Sequence[Outcome]) -> Estimate:
    if level == "T0":  # comparable with papers: their count, of the one protocol that hurts most
        hardest = min(chosen, key=lambda o: o.attacked_accuracy)
        return mean_of([s.attacked / hardest.draws for s in hardest.samples])
    if len(chosen) == 1:  # one attack is its own worst case, without the bookkeeping of who broke what
        return mean_of([*scored_fractions(chosen[0]).values()])
    return worst_case(chosen).accuracy


def _columns(kinds: Mapping[str, Sequence[Outcome]]) -> dict[str, Estimate]:
    return {
        level: _column(level, chosen)
        for level, chosen in kinds.items()
        if level and chosen and not different_samples(chosen)
    }


def _sub_threats(key: Place, own: Sequence[Outcome], groups: Mapping[Place, Sequence[Outcome]]) -> list[Outcome]:
    """Of a row with images and text attacked: the attacks on either alone, with its samples and its version.

    Whoever may change both may leave one as it is, so that no such row can stand above its weakest part.
    """
    method, backbone, dataset, seed, norm, modality, resolution, eps = key
    if modality != "both":
        return []
    limits, versions, found = {o.cell.limit for o in own}, {_version(o) for o in own}, {}
    for part in ((norm, "image", resolution, eps), ("none", "text", "model", Fraction(0))):
        for outcome in sorted(
            groups.get((method, backbone, dataset, seed, *part), ()), key=lambda o: o.provenance.made
        ):
            if outcome.cell.limit in limits and _version(outcome) in versions:
                found[outcome.cell.protocol.id] = outcome
    return [*found.values()]


def _row(own: Sequence[Outcome], sub_threats: Sequence[Outcome], across: Sequence[Flag], left_out: int) -> Row:
    outcomes = by_strength([*own, *sub_threats])
    kinds: dict[str, list[Outcome]] = defaultdict(list)
    levels: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        kinds[outcome.cell.protocol.threat.knowledge].append(outcome)
        levels[level(outcome.cell.protocol)].append(outcome)
    black_box, informed = levels["T0"] + levels["T3"], levels["T1"] + levels["T2"]
    cell, threat = own[0].cell, own[0].cell.protocol.threat
    flags = (
        indicator_flags(outcomes)
        + black_box_beats_white_box(black_box, kinds["white-box"])
        + gradients_mislead(black_box, informed)
        + noise_suffices([o for o in black_box if o.cell.protocol.attack.name == NOISE], informed)
        + label_leak(levels["T0"])
        + nothing_climbs(informed)
        + list(across)
    )
    card = card_of(cell.method)
    if informed and not kinds["adaptive"] and (card is None or card.paradigm in TEST_TIME):
        meaning = "nobody attacked this defence knowing how it works"
        flags.append(Flag("no-adaptive-attack", "this row", meaning, masking=True))
    masked_by = unanswered(flags, kinds["adaptive"], outcomes)
    attacks = [o for o in outcomes if o.cell.protocol.threat.knowledge != "none"]
    difference = different_samples(attacks) if attacks else ""
    worst = worst_case(attacks) if informed and not difference else None
    budget = convergence(outcomes, worst.accuracy.value) if worst else None
    state: State = "valid"
    lacking: tuple[str, ...] = ()
    if not attacks:
        state = "no attack"
    elif not informed:
        state = "transfer only"
    elif difference:
        state = "not comparable"
    elif masked_by:
        state = "masked"
    elif lacking := _lacking(threat, outcomes, budget):
        state = "upper bound"
    fractions = [s.clean / outcomes[0].draws for s in outcomes[0].samples]
    return Row(
        method=cell.method, backbone=cell.backbone, dataset=cell.dataset, threat=threat, seed=cell.seed, state=state,
        outcomes=tuple(outcomes), clean=mean_of(fractions),
        columns=_columns(levels), worst=worst,
        flags=tuple(flags), masked_by=tuple(masked_by),
        problem=f"different samples: {difference}; run all protocols with the same --limit" if difference else "",
        left_out=left_out, missing=lacking if state == "upper bound" else (),
        beaten=None if difference else beaten(attacks), convergence=budget,
    )  # fmt: skip


def _lacking(threat: ThreatModel, outcomes: Sequence[Outcome], budget: Convergence | None) -> tuple[str, ...]:
    """What keeps a row from its rank. Text alone is attacked by search, and a budget of zero by nothing."""
    if threat.modality == "text" or threat.harmless:
        return ()
    return (*missing(outcomes), *([budget.problem] if budget and budget.problem else []))


def rows(outcomes: Sequence[Outcome]) -> list[Row]:
    """All rows, sorted by block and rank.

    Images that were stored as 8 bits may leave the ball by less than 1/255: they answer claims, and stand in no row.
    """
    groups: dict[Place, list[Outcome]] = defaultdict(list)
    families: dict[tuple[object, ...], list[Outcome]] = defaultdict(list)
    for outcome in (each for each in outcomes if each.cell.protocol.evaluation.stored == "floats"):
        cell, threat = outcome.cell, outcome.cell.protocol.threat
        place = (cell.method, cell.backbone, cell.dataset, cell.seed, threat.norm, threat.modality)
        resolution = threat.attack_resolution
        groups[(*place, resolution, threat.eps)].append(outcome)
        version = (cell.attack_digest, *_version(outcome))
        families[(*place, resolution, recipe(outcome), cell.limit, *version)].append(outcome)
    across: dict[str, list[Flag]] = defaultdict(list)
    for family in families.values():
        for outcome, flag in more_budget_more_accuracy(family):
            across[outcome.key].append(flag)
    # An attack that fails without a bound says so on every row of the method, whatever its budget.
    unbounded: dict[tuple[object, ...], list[Flag]] = defaultdict(list)
    for key, group in groups.items():
        if group[0].cell.protocol.threat.eps >= UNBOUNDED:
            unbounded[key[:-1]] += unbounded_attack_fails(_newest(group))
    made = []
    for key, group in groups.items():
        own = _newest(group)
        flags = [flag for o in own for flag in across[o.key]]
        made.append(_row(own, _sub_threats(key, own, groups), flags + unbounded[key[:-1]], len(group) - len(own)))
    return sorted(
        made, key=lambda row: (row.backbone, row.dataset, MODALITIES.index(row.threat.modality), row.block, row.rank)
    )


def headline(found: Sequence[Row]) -> dict[Block, list[Row]]:
    """The tables of the front page: rows by block, without zero and unbounded budgets, which are controls.

    A row without attack is kept only where the method has no attacked row on the same backbone and data set.
    """
    attacked = {(r.method, r.backbone, r.dataset) for r in found if r.state != "no attack" and not r.control}
    blocks: dict[Block, list[Row]] = defaultdict(list)
    for row in found:
        lonely = (row.method, row.backbone, row.dataset) not in attacked
        if not row.control and (row.state != "no attack" or lonely):
            blocks[row.block].append(row)
    return dict(blocks)
