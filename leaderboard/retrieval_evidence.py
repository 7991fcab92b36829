"""Retrieval outcomes of a folder, judged as those of the matrix are: what counts, what is set aside, and why."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vlm_gauntlet.suites.known_here import KnownHere
from vlm_gauntlet.suites.plausible import Doubt, judgement
from vlm_gauntlet.suites.plausible_retrieval import retrieval_doubts
from vlm_gauntlet.suites.record_folder import SetAside, conflict, repeated
from vlm_gauntlet.suites.retrieval_records import RetrievalJournal, RetrievalOutcome
from vlm_gauntlet.suites.verification_records import Verification, verifications


@dataclass(frozen=True)
class RetrievalEvidence:
    """See `evidence.Evidence`; nothing ranks here, so what is unknown is set aside as what is impossible."""

    sound: Sequence[RetrievalOutcome]
    aside: Sequence[SetAside]
    doubts: Mapping[str, Sequence[Doubt]]
    verified: Mapping[str, Sequence[Verification]]


def gather_retrieval(folder: Path, here: KnownHere) -> RetrievalEvidence:
    """Reads and judges the retrieval outcomes of a folder of outcomes. No file in it raises."""
    journal = RetrievalJournal(folder)
    held, aside = journal.held()
    sound: list[RetrievalOutcome] = []
    doubts: dict[str, Sequence[Doubt]] = {}
    verified: dict[str, Sequence[Verification]] = {}
    for key, same in held.items():
        judged = [(path, outcome, judgement(retrieval_doubts, outcome, here)) for path, outcome in same]
        aside += [SetAside(path, told) for path, _, found in judged if (told := _against(found))]
        left = [(path, outcome) for path, outcome, found in judged if not _against(found)]
        aside += (clash := conflict(left) if left else [])
        if clash or not left:
            continue
        aside += repeated(left)
        path, outcome = left[0]
        looks, unreadable = verifications(journal.folder, outcome)
        aside += [unreadable] if unreadable else []
        if wrong := [look for look in looks if look.differences]:
            aside.append(SetAside(path, f"{wrong[0].by} recomputed it, and it {wrong[0].words}"))
            continue
        sound.append(outcome)
        doubts[key], verified[key] = next(found for at, _, found in judged if at == path), looks
    return RetrievalEvidence(sorted(sound, key=lambda o: (o.cell.id, o.key)), aside, doubts, verified)


def _against(found: Sequence[Doubt]) -> str:
    return "; ".join(doubt.meaning for doubt in found if doubt.kind != "not checked here")
