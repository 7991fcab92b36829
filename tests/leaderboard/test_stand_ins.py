"""Random weights in the place of real ones say nothing of a claim, and the verdict says so."""

import pytest

from vlm_gauntlet.fixtures.stand_in import in_place_of, stands_for
from vlm_gauntlet.leaderboard.matching import BACKBONES
from vlm_gauntlet.leaderboard.verdicts import verdicts
from vlm_gauntlet.methods.claims import claims
from vlm_gauntlet.suites.runnable import protocols_named

from .factory import outcome

REAL = BACKBONES["ViT-B/32"]


@pytest.mark.parametrize(
    ("name", "architecture"),
    [
        ("open_clip:ViT-B-32-quickgelu/random", "ViT-B-32-quickgelu"), (REAL, ""), ("miniclip-vit", ""),
        ("open_clip:hf-hub:stand-in/ViT-B-32-quickgelu", "ViT-B-32-quickgelu"), ("open_clip:hf-hub:laion/random", ""),
    ],
)  # fmt: skip
def test_a_stand_in_is_known_by_its_name(name: str, architecture: str) -> None:
    assert stands_for(name) == architecture
    assert in_place_of(name, REAL) == (name == REAL or bool(architecture))
    assert not in_place_of(name, BACKBONES["RN50"])


def test_its_outcome_is_no_evidence() -> None:
    claim = next(
        c for c in claims()
        if c.method == "undefended" and c.backbone == "ViT-B/32" and c.protocol == "tga-zsr-pgd-100-linf-1-255"
    )  # fmt: skip
    (protocol,) = protocols_named(claim.protocol, claim.dataset)

    def verdict(backbone: str) -> tuple[str, str]:
        made = outcome("1100", method="undefended", backbone=backbone, dataset=claim.dataset)
        cell = made.cell.model_copy(update={"protocol": protocol, "limit": 1_000_000})
        found = verdicts([claim], [made.model_copy(update={"cell": cell, "key": cell.key})])[claim.id]
        return found.word, found.reason

    word, reason = verdict("open_clip:ViT-B-32-quickgelu/random")
    assert word == "not checkable" and reason.startswith("Stand-in weights")
    assert verdict("open_clip:RN50-quickgelu/random")[0] == "not run"
    assert not verdict(REAL)[1].startswith("Stand-in")
    assert verdict(REAL)[0] != "not run"
