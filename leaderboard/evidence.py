"""What a folder of outcomes holds for the board: what counts, what is shown without a rank, what is set aside, and why.

One bad file never stops the rest. Outcomes that no run of this code gives are set aside. Those of code, methods or data
that are not known here stand in rows of their own, which cannot rank and take no place of a row that can. So do all of
real CLIP while a control number does not hold: what then comes out is a fault of the installation.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from vlm_gauntlet.fixtures.records import Outcome
from vlm_gauntlet.suites.check_records import CheckRecord, kept
from vlm_gauntlet.suites.known_here import KnownHere
from vlm_gauntlet.suites.plausible import Doubt, doubts, judgement
from vlm_gauntlet.suites.record_folder import SetAside, conflict, repeated
from vlm_gauntlet.suites.retrieval_records import RetrievalOutcome
from vlm_gauntlet.suites.verification_records import Verification, verifications

from . import control_numbers as numbers
from .control_numbers import Held, not_holding
from .flags import Flag
from .retrieval_evidence import gather_retrieval
from .rows import Row, rows
from .sharing import SharingJournal

MAKERS = {
    "first party": "run by this project", "third party": "run by somebody else",
    "authors": "run by the method's authors", "unknown": "nobody says who ran it",
}  # fmt: skip


@dataclass(frozen=True)
class Evidence:
    """The outcomes of a folder, judged.

    Args:
        sound: those that rank.
        unranked: those that are shown and cannot rank.
        retrieval: outcomes of image-text retrieval.
        aside: files that are not shown, with the reason.
        doubts: reasons against the unranked ones, and what of the others could not be checked, by key.
        verified: what recomputing gave, by key.
        checks: what `gauntlet check` found, by method and backbone.
        suspended: keys of unranked outcomes that nothing but a control number keeps from ranking.
    """

    sound: Sequence[Outcome] = ()
    unranked: Sequence[Outcome] = ()
    retrieval: Sequence[RetrievalOutcome] = ()
    aside: Sequence[SetAside] = ()
    doubts: Mapping[str, Sequence[Doubt]] = field(default_factory=dict)
    verified: Mapping[str, Sequence[Verification]] = field(default_factory=dict)
    checks: Mapping[tuple[str, str], CheckRecord] = field(default_factory=dict)
    suspended: frozenset[str] = frozenset()

    @cached_property
    def controls(self) -> list[Held]:
        """What came of the control numbers."""
        return numbers.held([*self.sound, *(o for o in self.unranked if o.key in self.suspended)], self.retrieval)

    @property
    def reasons(self) -> list[tuple[str, list[str]]]:
        """Why files are set aside, the most frequent reason first: (reason, names of the files)."""
        return _grouped([(found.reason, found.path.name) for found in self.aside])

    @property
    def unranked_reasons(self) -> list[tuple[str, list[str]]]:
        """Why outcomes do not rank, likewise: (reason, ids of the cells)."""
        return _grouped([(self.problem(o), o.cell.id) for o in self.unranked])

    def problem(self, outcome: Outcome) -> str:
        """What keeps an outcome from ranking, in words."""
        return "; ".join(d.meaning for d in self.doubts.get(outcome.key, ()) if d.kind != "not checked here")

    def unchecked(self, outcome: Outcome | RetrievalOutcome) -> list[str]:
        """What of an outcome could not be looked at here."""
        return [d.meaning for d in self.doubts.get(outcome.key, ()) if d.kind == "not checked here"]

    def looks(self, outcome: Outcome | RetrievalOutcome) -> Sequence[Verification]:
        """What recomputing this outcome gave."""
        return self.verified.get(outcome.key, ())

    def told(self, row: Row) -> str:
        """Who ran the cells of a row, and how much of them was recomputed: `third party; 16 of 48 samples verified`."""
        makers = Counter(o.provenance.maker for o in row.outcomes)
        who = ", ".join(maker for maker, _ in sorted(makers.items())) if set(makers) != {"unknown"} else "unknown"
        n = sum(o.n for o in row.outcomes)
        counts = {source: sum(len(self._seen(o, source)) for o in row.outcomes) for source in ("recomputed", "archive")}
        told = f"{counts['recomputed']} of {n} samples verified" if counts["recomputed"] else "not verified"
        return f"{who}; {told}" + (f", {counts['archive']} scored from archived images" if counts["archive"] else "")

    def _seen(self, outcome: Outcome, source: str) -> set[str]:
        return {name for look in self.looks(outcome) if look.source == source for name in look.chosen}

    def rows(self) -> list[Row]:
        """The rows of the board: those of what is sound, and others in places that these do not fill."""
        return list(self._rows)

    @cached_property
    def _rows(self) -> list[Row]:
        found = [self._checked(row) for row in rows(self.sound)]
        taken = {_place(row) for row in found}
        others = [row for row in rows(self.unranked) if _place(row) not in taken]
        made = [*found, *(self._unranked(row) for row in others)]
        order = {row.block: i for i, row in reversed(list(enumerate(made)))}
        return sorted(made, key=lambda row: (order[row.block], row.rank))

    def _checked(self, row: Row) -> Row:
        """The row with what its defence's check found: one that failed masks it."""
        record = self.checks.get((row.method, row.backbone))
        if record is None or record.code_digest != row.outcomes[0].cell.code_digest:
            return row
        flags = [
            Flag(f"check-{word}", "gauntlet check", ", ".join(names), masking=word == "failed")
            for word, names in (("failed", record.named("fail")), ("warned", record.named("warn")))
            if names
        ]
        red = [flag for flag in flags if flag.masking]
        state = "masked" if red and row.state in ("valid", "upper bound") else row.state
        return replace(row, state=state, flags=(*row.flags, *flags), masked_by=(*row.masked_by, *red))

    def _unranked(self, row: Row) -> Row:
        problems = dict.fromkeys(filter(None, map(self.problem, row.outcomes)))
        told = "; ".join(problems)
        return replace(row, state="unknown here", worst=None, beaten=None, convergence=None, problem=told)


def gather(folder: Path, here: KnownHere) -> Evidence:
    """Reads and judges a folder of outcomes. No file in it raises."""
    held, aside = SharingJournal(folder).held()
    retrieval = gather_retrieval(folder, here)
    sound: list[Outcome] = []
    unranked: list[Outcome] = []
    reasons: dict[str, Sequence[Doubt]] = {}
    verified: dict[str, Sequence[Verification]] = {}
    for key, same in held.items():
        judged = [(path, outcome, judgement(doubts, outcome, here)) for path, outcome in same]
        aside += [SetAside(path, told) for path, _, found in judged if (told := _impossible(found))]
        judged = [each for each in judged if not _impossible(each[2])]
        if whole := [each for each in judged if not any(d.kind == "incomplete" for d in each[2])]:
            aside += [SetAside(e[0], "; ".join(d.meaning for d in e[2])) for e in judged if e not in whole]
            judged = whole
        left = [(path, outcome) for path, outcome, _ in judged]
        aside += (clash := conflict(left) if len(left) > 1 else [])
        if clash or not left:
            continue
        aside += repeated(left)
        _, outcome, found = judged[0]
        looks, unreadable = verifications(folder, outcome)
        aside += [unreadable] if unreadable else []
        if wrong := [look for look in looks if look.differences]:
            found.append(Doubt("unknown here", f"{wrong[0].by} recomputed it, and it {wrong[0].words}"))
        reasons[key], verified[key] = found, looks
        (sound if all(d.kind == "not checked here" for d in found) else unranked).append(outcome)
    suspended = _suspended(sound, retrieval.sound)
    reasons |= {key: [*reasons[key], doubt] for key, doubt in suspended.items()}
    unranked += [o for o in sound if o.key in suspended]
    sound = [o for o in sound if o.key not in suspended]
    for outcomes in (sound, unranked):
        outcomes.sort(key=lambda o: (o.cell.id, o.key))
    checks, broken = kept(folder)
    aside += [SetAside(Path(error.where), error.short) for error in broken]
    files = sorted([*aside, *retrieval.aside], key=lambda a: a.path)
    reasons |= retrieval.doubts
    verified |= retrieval.verified
    return Evidence(sound, unranked, retrieval.sound, files, reasons, verified, checks, frozenset(suspended))


def _suspended(sound: Sequence[Outcome], retrieval: Sequence[RetrievalOutcome]) -> dict[str, Doubt]:
    """What keeps the outcomes on real CLIP from counting, by key, where a control number does not hold."""
    told = not_holding(numbers.held(sound, retrieval))
    return {o.key: Doubt("unknown here", told) for o in sound if told and o.cell.backbone == numbers.BACKBONE}


def _impossible(found: Sequence[Doubt]) -> str:
    return "; ".join(doubt.meaning for doubt in found if doubt.kind == "impossible")


def _place(row: Row) -> tuple[object, ...]:
    return (row.method, row.seed, *row.block)


def _grouped(pairs: Sequence[tuple[str, str]]) -> list[tuple[str, list[str]]]:
    found: dict[str, list[str]] = defaultdict(list)
    for reason, name in pairs:
        found[reason].append(name)
    return sorted(found.items(), key=lambda item: (-len(item[1]), item[0]))
