"""The report of a night: what ran, failed, was left out and why; for people (Markdown) and for machines (JSON)."""

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlm_gauntlet.fixtures.files import write_atomically, writing
from vlm_gauntlet.suites.engines.ends import WORDS, CellEnd
from vlm_gauntlet.suites.planning.budget import Choice
from vlm_gauntlet.suites.planning.work import Work

from .control_gate import told, wrong
from .control_numbers import Held
from .controls_page import record
from .night_plan import NightPlan
from .verdicts import Verdict

NAME = "night"


@dataclass(frozen=True)
class Night:
    """A night that is over.

    Args:
        plan: what there was to do.
        choice: what the budget bought.
        ends: what became of each chosen cell.
        verdicts: on the claims that it was to settle, by id.
        device: what computed.
        budget: seconds that it had.
        seed: of the run.
        board: where the pages are, or why there are none.
        backbone: that all stood on.
        controls: control numbers against what lies in the folder when it is over.
    """

    plan: NightPlan
    choice: Choice
    ends: Sequence[CellEnd]
    verdicts: Mapping[str, Verdict]
    device: str
    budget: float
    seed: int
    board: str
    backbone: str
    controls: Sequence[Held]

    @property
    def counts(self) -> dict[str, int]:
        """How many cells ended in which way."""
        found = Counter(end.word for end in self.ends)
        return {word: found[word] for word in WORDS}

    @property
    def words(self) -> dict[str, int]:
        """How many claims got which verdict."""
        return dict(sorted(Counter(v.word for v in self.verdicts.values()).items()))

    def record(self) -> dict[str, Any]:
        """Everything, for machines."""
        works = {w.key: w for w in self.plan.works}
        return {
            "device": self.device, "budget_seconds": self.budget, "seed": self.seed, "rate": self.plan.rate.source,
            "controls": {"told": told(self.controls, self.backbone), "numbers": [record(one) for one in self.controls]},
            "cells": self.counts, "verdicts": self.words, "board": self.board,
            "seconds": {"planned": self.choice.seconds, "spent": round(sum(e.seconds for e in self.ends), 1)},
            "ends": [_line(end, works[end.key]) for end in self.ends],
            "claims": [{"claim": v.claim, "verdict": v.word, "reason": v.reason} for v in self.verdicts.values()],
            "left_out": {"cells": [w.key for w in self.plan.works if w.key not in set(self.choice.cells)],
                         "questions": list(self.choice.left)},
            "blocked": self.plan.blocked,
        }  # fmt: skip

    def text(self) -> str:
        """The report in Markdown."""
        works = {w.key: w for w in self.plan.works}
        spent = sum(end.seconds for end in self.ends)
        lines = [
            "# The night", "",
            f"{self.device}; budget {self.budget / 3600:.2f} h, planned {self.choice.seconds / 3600:.2f} h, spent "
            f"{spent / 3600:.2f} h; seed {self.seed}. {self.plan.rate.source}.", "",
            told(self.controls, self.backbone), *(f"- {line}" for line in wrong(self.controls)), "",
            ", ".join(f"{count} {word}" for word, count in self.counts.items()) + ".",
            f"Claims: {', '.join(f'{n} {word}' for word, n in self.words.items()) or 'none was to be settled'}.",
            f"Left out by the budget: {len(self.plan.works) - len(self.choice.cells)} cells, {len(self.choice.left)} "
            f"questions. Blocked whatever runs: {len(self.plan.blocked)} claims.",
            f"Board: {self.board}.", "",
        ]  # fmt: skip
        lines += self._table(works)
        for word in ("failed", "not run", "not reached"):
            lines += self._reasons(word, works)
        reasons = Counter((v.word, v.reason) for v in self.verdicts.values())
        if reasons:
            lines += ["## Verdicts", ""]
            lines += [f"- {n} {word}: {reason}" for (word, reason), n in reasons.most_common()] + [""]
        return "\n".join(lines)

    def _table(self, works: Mapping[str, Work]) -> list[str]:
        ran = [(end, end.outcome) for end in self.ends if end.outcome is not None]
        if not ran:
            return []
        rows = ["## Ran", "", "| cell | n | clean % | attacked % | seconds | planned | indicators |",
                "|---|---|---|---|---|---|---|"]  # fmt: skip
        for end, o in ran:
            fired = " ".join(i.name for i in o.indicators if i.fired)
            planned = works[end.key].seconds
            rows.append(
                f"| {_cell(end.key)} | {o.n} | {100 * o.clean_accuracy:.1f} | {100 * o.attacked_accuracy:.1f} | "
                f"{end.seconds:.1f} | {'' if planned is None else f'{planned:.1f}'} | {fired} |"
            )
        return [*rows, ""]

    def _reasons(self, word: str, works: Mapping[str, Work]) -> list[str]:
        by_reason: dict[str, list[str]] = defaultdict(list)
        for end in self.ends:
            if end.word == word:
                by_reason[end.reason].append(works[end.key].id)
        told = [f"- {len(ids)} cells: {' '.join(reason.split())}: {', '.join(map(_cell, ids[:5]))}"
                f"{', ...' if len(ids) > 5 else ''}" for reason, ids in by_reason.items()]  # fmt: skip
        return [f"## {word.capitalize()}", "", *told, ""] if told else []


def _cell(text: str) -> str:
    return f"`{text.replace('|', '/')}`"


def _line(end: CellEnd, work: Work) -> dict[str, Any]:
    o = end.outcome
    result = {} if o is None else {"key": o.key, "n": o.n, "clean": o.clean_accuracy, "attacked": o.attacked_accuracy}
    return {"cell": work.id, "word": end.word, "reason": end.reason, "seconds": end.seconds,
            "planned_seconds": work.seconds, **result}  # fmt: skip


def write_report(night: Night, folder: Path) -> tuple[Path, Path]:
    """Writes `night.md` and `night.json`.

    Raises:
        GauntletError: the folder takes no file.
    """
    text, record = folder / f"{NAME}.md", folder / f"{NAME}.json"
    with writing(text, fix="give another --report, or make room"):
        write_atomically(text, night.text().encode())
        write_atomically(record, (json.dumps(night.record(), indent=1) + "\n").encode())
    return text, record
