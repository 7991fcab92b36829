"""One broken file of claims, sources, protocols or frozen numbers is named, and left out of what the others say."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vlm_gauntlet.fixtures import reported, sources
from vlm_gauntlet.fixtures.errors import GauntletError
from vlm_gauntlet.fixtures.parts import Parts
from vlm_gauntlet.leaderboard import trainings
from vlm_gauntlet.leaderboard.left_out import left_out
from vlm_gauntlet.leaderboard.verdicts import verdicts
from vlm_gauntlet.methods import claims, registry
from vlm_gauntlet.suites import mini_claims
from vlm_gauntlet.suites.runnable import protocols_named

CACHES = (sources.parts, reported.parts, reported.reported_protocols, reported.readings, reported._headers,
          claims.parts, claims.claims, mini_claims.parts, mini_claims.mini_claims, trainings.parts,
          trainings.spread)  # fmt: skip
FOLDERS = {sources: "FOLDER", reported: "FOLDER", claims: "HERE", mini_claims: "HERE", trainings: "HERE"}


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Path]]:
    """Puts a few files of the project into a folder of their own, and has their module read that."""

    def copy(module: object, *names: str) -> Path:
        here = Path(getattr(module, FOLDERS[module]))  # type: ignore[index]
        there = tmp_path / module.__name__.rpartition(".")[2]  # type: ignore[attr-defined]
        for name in names:
            (there / name).parent.mkdir(parents=True, exist_ok=True)
            (there / name).write_bytes((here / name).read_bytes())
        monkeypatch.setattr(module, FOLDERS[module], there)  # type: ignore[index]
        for cache in CACHES:
            cache.cache_clear()
        return there

    yield copy
    monkeypatch.undo()
    for cache in CACHES:
        cache.cache_clear()


KINDS: dict[str, tuple[object, Callable[[], Parts[object]], str, str]] = {  # good, bad
    "sources": (sources, sources.parts, "apt.toml", "tapt.toml"),
    "reported": (reported, reported.parts, "apt.toml", "tapt.toml"),
    "claims": (claims, claims.parts, "aom/claims.csv", "tapt/claims.csv"),
    "mini claims": (mini_claims, mini_claims.parts, "aom/mini_claims.csv", "tapt/mini_claims.csv"),
    "trainings": (trainings, trainings.parts, "tecoa/trainings.csv", "tecoa/trainings.csv"),
}  # type: ignore[assignment]
BYTES = {"no UTF-8": b"\xff\xfe\x00", "half a line": b"id = ", "empty": b"", "wrong columns": b"a,b\n1,2\n"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fault", [*BYTES, "a folder", "a link into nothing"])
def test_a_broken_file_is_named_and_the_rest_works(copied: Callable[..., Path], kind: str, fault: str) -> None:
    module, parts, good, bad = KINDS[kind]
    folder = copied(module, good)
    name, path = ("bad", folder / "bad" / bad.rpartition("/")[2]) if "/" in bad else ("bad", folder / "bad.toml")
    path.parent.mkdir(exist_ok=True)
    if fault in BYTES:
        path.write_bytes(BYTES[fault])
    else:
        path.mkdir() if fault == "a folder" else path.symlink_to(folder / "nowhere")
    assert len(parts().usable) == 1 and list(parts().unusable) == [name]
    error = parts().unusable[name]
    assert str(path) in error.where and error.fix and "\n" not in error.short and "pydantic" not in str(error)
    with pytest.raises(GauntletError) as caught:
        parts().get(name, "here")
    assert caught.value is error
    lost = left_out(module.__name__)  # type: ignore[attr-defined]
    assert [(part.name, part.outside) for part in lost] == [(name, False)]


def test_claims_of_a_broken_source_are_out_and_nothing_else(copied: Callable[..., Path]) -> None:
    whole = claims.claims()
    folder = copied(sources, *(path.name for path in sources.FOLDER.glob("*.toml")))
    (folder / "mmcoa.toml").write_text("title = ")
    left = claims.claims()
    assert set(whole) - set(left) == {c for c in whole if c.source == "mmcoa"} and not claims.parts().unusable
    assert 600 < len(whole) - len(left) < len(whole)
    with pytest.raises(GauntletError, match="Invalid value"):
        sources.source("mmcoa")
    with pytest.raises(GauntletError, match="did you mean mmcoa"):
        sources.source("mmco")


@pytest.mark.parametrize(
    ("family", "fault"),
    [("apt", "half a line"), ("apt", "no UTF-8"), ("purification-aware-attack", "half a line")],  # the last: ids paa-*
)
def test_claims_under_a_broken_protocol_are_out_and_nothing_else(
    copied: Callable[..., Path], family: str, fault: str
) -> None:
    whole = claims.claims()
    ids = {p.id for p in reported.reported_protocols().values() if p.family == family}
    folder = copied(reported, *(path.name for path in reported.FOLDER.glob("*.toml")))
    path = folder / f"{family}.toml"
    path.write_bytes(b"\xff" if fault == "no UTF-8" else path.read_bytes() + b"\n[half")
    left = claims.claims()
    gone = {c for c in whole if c.protocol in ids}
    assert gone and set(whole) - set(left) == gone and not claims.parts().unusable
    for name in ids:
        with pytest.raises(GauntletError, match="reported protocols that does not validate") as caught:
            protocols_named(name, "cifar10")
        assert f"{family}.toml" in caught.value.where
    with pytest.raises(GauntletError, match="unknown protocol"):
        protocols_named("tttc", "cifar10")


def test_two_files_with_one_claim_are_told_and_only_the_later_is_out(copied: Callable[..., Path]) -> None:
    folder = copied(claims, "aom/claims.csv", "hd/claims.csv")
    (folder / "zzz").mkdir()
    (folder / "zzz" / "claims.csv").write_bytes((folder / "aom" / "claims.csv").read_bytes())
    assert list(claims.parts().usable) == ["aom", "hd"]
    error = claims.parts().unusable["zzz"]
    assert "in two methods" in error.came and error.where == "methods/aom and methods/zzz"


def test_two_families_with_one_protocol_are_told_and_only_the_later_is_out(copied: Callable[..., Path]) -> None:
    folder = copied(reported, "apt.toml", "tapt.toml")
    (folder / "zzz.toml").write_bytes((folder / "apt.toml").read_bytes())
    assert list(reported.parts().usable) == ["apt", "tapt"]
    assert "two reported protocols called" in reported.parts().unusable["zzz"].came
    (first, *_) = reported.parts().usable["apt"]
    assert reported.reported_protocol(first.id) == first, "the first file still has it"


def test_a_claim_on_a_broken_method_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = [c for c in claims.claims() if c.method == "ttc"]
    before = verdicts(chosen, [])
    error = GauntletError("card with 9 problems", expected="", where="", fix="")
    monkeypatch.setitem(registry.parts().unusable, "ttc", error)
    monkeypatch.delitem(registry.parts().usable, "ttc")
    after = verdicts(chosen, [])
    pairs = {(before[c], after[c]) for c in after if after[c] != before[c] and not after[c].readings}
    pairs |= {(b[1], a[1]) for c in after for b, a in zip(before[c].readings, after[c].readings, strict=True) if a != b}
    assert pairs and all(b.word == a.word == "not run" for b, a in pairs)
    assert {a.reason for _, a in pairs} == {"'ttc' cannot be used here: card with 9 problems."}
