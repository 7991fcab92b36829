"""Outcomes through the real record classes, from a string of bits."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from fractions import Fraction

from vlm_gauntlet.attacks.protocols import protocol
from vlm_gauntlet.attacks.text.rules import WordSwap
from vlm_gauntlet.fixtures.records import Cell, Cost, Indicator, Outcome, Provenance, Sample
from vlm_gauntlet.suites.recall import Ranks
from vlm_gauntlet.suites.retrieval_records import RetrievalCell, RetrievalOutcome

RULES = WordSwap(source="characters")
MADE = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def fired(name: str) -> Indicator:
    return Indicator(name=name, value=1.0, threshold=0.0, fired=True, meaning=f"{name} was seen")


def outcome(
    robust: str,
    protocol_id: str = "pgd-10-white-box-linf-1-255",
    *,
    clean: str = "",
    method: str = "tecoa",
    backbone: str = "tiny",
    dataset: str = "shapes",
    seed: int = 0,
    draws: int = 1,
    ids: Sequence[str] = (),
    indicators: Sequence[Indicator] = (),
    code: str = "code",
    age_days: int = 0,
    passes: int = 1,
) -> Outcome:
    """One digit a sample: in how many draws it was right. Clean defaults to always right."""
    n = len(robust)
    cell = Cell(
        method=method, method_digest="m", backbone=backbone, backbone_digest="b", dataset=dataset, dataset_digest="d",
        prompts_digest="p", protocol=protocol(protocol_id), seed=seed, limit=n, code_digest=code,
    )  # fmt: skip
    names = ids or [f"{i:04d}" for i in range(n)]
    cleans = clean or str(draws) * n
    return Outcome(
        key=cell.key,
        cell=cell,
        draws=draws,
        samples=tuple(
            Sample(id=i, label=0, clean=int(c), attacked=int(r)) for i, c, r in zip(names, cleans, robust, strict=True)
        ),
        defence_cost=Cost(forward=n * passes, backward=0, seconds=0.25),
        attack_cost=Cost(forward=10 * n, backward=10 * n, seconds=1.5),
        indicators=tuple(indicators),
        provenance=Provenance(
            made=MADE - timedelta(days=age_days), device="cpu", versions={"torch": "2.11"}, command="gauntlet run",
            batch_size=32,
        ),
    )  # fmt: skip


def retrieved(
    clean: Sequence[int] = (0, 0, 4, 7),
    attacked: Sequence[int] = (9, 0, 4, 12),
    *,
    method: str = "tecoa",
    backbone: str = "tiny",
    dataset: str = "captions",
    attack: str = "sga",
    eps: Fraction = Fraction(2, 255),
    text: WordSwap = RULES,
    seed: int = 0,
    code: str = "code",
    age_days: int = 0,
) -> RetrievalOutcome:
    """The ranks of each image; it has two captions, which rank as it does."""
    cell = RetrievalCell(
        method=method, method_digest="m", backbone=backbone, backbone_digest="b", dataset=dataset, dataset_digest="d",
        attack=attack, eps=eps, text=text, text_source_digest="", seed=seed, limit=len(clean), code_digest=code,
    )  # fmt: skip
    return RetrievalOutcome(
        key=cell.key,
        cell=cell,
        image_to_text=Ranks(clean=tuple(clean), attacked=tuple(attacked)),
        text_to_image=Ranks(clean=(*clean, *clean), attacked=(*attacked, *attacked)),
        captions_changed=len(clean) + 1,
        provenance=Provenance(
            made=MADE - timedelta(days=age_days), device="cpu", versions={"torch": "2.11"},
            command="gauntlet retrieval --attack sga", batch_size=16,
        ),
    )  # fmt: skip
