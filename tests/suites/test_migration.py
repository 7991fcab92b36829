"""Frozen outcomes of version 1 are carried over only where their protocol is provably the same."""

from pathlib import Path

import pytest

from vlm_gauntlet.attacks.protocols import protocol, varied
from vlm_gauntlet.fixtures.errors import GauntletError
from vlm_gauntlet.suites.migration import flat, migrate, old_digest
from vlm_gauntlet.suites.mini_claims import FILE, HERE, read_mini_claims

# Digests that version 1 wrote into methods/*/mini_claims.csv, by protocol.
FROZEN = {
    "clean": "3a1a639b4395",
    "pgd-10-transfer-linf-1-255": "c659b9c33e61",
}


def as_of_version_1(path: Path, source: Path) -> str:
    """A file of frozen outcomes with the digests that version 1 wrote."""
    text = source.read_text()
    for claim in read_mini_claims(source):
        text = text.replace(protocol(claim.protocol).digest[:12], old_digest(protocol(claim.protocol))[:12])
    path.write_text(text)
    return source.read_text()


def test_digests_of_version_1_are_reproduced() -> None:
    assert {name: old_digest(protocol(name))[:12] for name in FROZEN} == FROZEN


@pytest.mark.parametrize("source", sorted(HERE.glob(f"*/{FILE}")), ids=lambda p: p.parent.name)
def test_every_frozen_outcome_is_carried_over_and_nothing_else_changes(source: Path, tmp_path: Path) -> None:
    path = tmp_path / FILE
    wanted = as_of_version_1(path, source)
    rows = sum(1 for _ in read_mini_claims(source))
    assert migrate(path) == rows and path.read_text() == wanted
    assert migrate(path) == 0, "a second run finds nothing to do"


def test_another_protocol_under_the_same_name_is_refused(tmp_path: Path) -> None:
    path, source = tmp_path / FILE, HERE / "rn" / FILE
    as_of_version_1(path, source)
    name = "pgd-10-white-box-linf-16-255"
    changed = old_digest(varied(protocol(name), steps=11).model_copy(update={"id": name}))
    path.write_text(path.read_text().replace(old_digest(protocol(name))[:12], changed[:12]))
    before = path.read_bytes()
    with pytest.raises(GauntletError, match=f"line .*{name}.*{changed[:12]}"):
        migrate(path)
    assert path.read_bytes() == before


def test_what_version_1_called_the_fields() -> None:
    square = flat(protocol("square-100-black-box-linf-1-255"))
    assert (square["attack"], square["steps"], square["loss"]) == ("square", 100, "margin")
    joint = flat(protocol("joint-char-1-adaptive-linf-1-255"))
    assert (joint["attack"], joint["joint"], joint["eot"]) == ("pgd", True, 4)
    assert "joint" not in flat(protocol("sep-char-1-transfer-linf-1-255"))
