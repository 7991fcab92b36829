"""Released weights: each method's list, where a file is looked for, what a wrong or an absent one says. No network."""

from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch

from vlm_gauntlet.fixtures.backbones import load_backbone
from vlm_gauntlet.fixtures.checkpoints import digest_of_file
from vlm_gauntlet.fixtures.errors import GauntletError, UnavailableError
from vlm_gauntlet.fixtures.hub import ALLOW
from vlm_gauntlet.methods import released as module
from vlm_gauntlet.methods.fare.method import FARE
from vlm_gauntlet.methods.registry import method, methods
from vlm_gauntlet.methods.released import HERE, Released, named, of_label, read_released
from vlm_gauntlet.suites.tiers import tier

B32 = "open_clip:ViT-B-32-quickgelu/openai"
VIT = "miniclip-vit"


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GAUNTLET_DATA", str(tmp_path / "root"))
    monkeypatch.delenv(ALLOW, raising=False)
    return tmp_path / "root"


def listed(monkeypatch: pytest.MonkeyPatch, **more: Any) -> Released:
    """The one set of released weights of every method, for the embedded backbone."""
    fields = {"id": "eps1", "backbone": VIT, "file": "w.pt", "licence": "MIT", "url": "https://host.invalid/w.pt"}
    made = Released.model_validate({**fields, **more})
    monkeypatch.setattr(module, "read_released", lambda folder: (made,))
    return made


def save(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({f"module.{n}": t + 0.001 for n, t in load_backbone(VIT).clip.visual.state_dict().items()}, path)
    return path


def test_every_list_validates_and_is_of_a_method_that_takes_it() -> None:
    having = {path.parent.name for path in HERE.glob("*/released.toml")}
    assert {"fare", "tecoa", "tga_zsr"} <= having <= methods().keys()
    for name in having:
        assert read_released(HERE / name)


def test_it_is_a_row_of_its_own_that_claims_of_that_model_are_compared_with() -> None:
    assert method("fare+released=eps1").label == "fare+released=eps1"
    weights = of_label("fare+released=eps1", B32)
    assert weights is not None and (weights.variant, weights.trained_on) == ("trained at 1/255", "imagenet")
    for label in ("fare", "fare+distance=l1", "checkpoint:a/b+released=x"):
        assert of_label(label, B32) is None
    assert named("fare", "trained at 1/255", B32, "imagenet") == "fare+released=eps1"
    assert named("fare", "trained at 1/255", B32, "tiny_imagenet") == named("ttc", "", B32, "none") == ""


def test_it_stands_in_a_tier_on_its_backbone_and_in_no_other() -> None:
    assert {"fare+released=eps1", "fare+released=eps4", "tecoa+released=official"} <= set(tier("nightly").methods)
    assert "fare+released=eps2" not in tier("nightly").methods
    assert not any("released" in name for name in tier("mini").methods)


def test_a_file_at_its_place_is_the_defence(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(root / "weights" / "fare" / "w.pt")
    listed(monkeypatch, sha256=digest_of_file(path))
    base = load_backbone(VIT)
    robust = FARE(base, {"released": "eps1"}).tuned_backbone
    assert torch.equal(robust.clip.visual.proj, base.clip.visual.proj + 0.001)


def test_another_file_than_was_released_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(root / "weights" / "fare" / "w.pt")
    listed(monkeypatch, sha256="0" * 64)
    with pytest.raises(GauntletError, match=f"weights with SHA-256 {digest_of_file(path)}") as caught:
        FARE(load_backbone(VIT), {"released": "eps1"})
    assert not isinstance(caught.value, UnavailableError)


@pytest.mark.parametrize(("by_hand", "ways"), [(False, True), (True, False)])
def test_an_absent_file_says_where_it_comes_from(
    by_hand: bool, ways: bool, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed(monkeypatch, by_hand=by_hand)
    with pytest.raises(UnavailableError, match="are not on this machine") as caught:
        FARE(load_backbone(VIT), {"released": "eps1"})
    assert "https://host.invalid/w.pt" in caught.value.fix and ("--allow-network" in caught.value.fix) == ways
    assert str(root / "weights" / "fare" / "w.pt") in str(caught.value)


def test_a_link_is_followed_only_where_that_is_allowed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(url: str, path: str) -> None:
        save(Path(path))

    monkeypatch.setattr("torch.hub.download_url_to_file", download)
    listed(monkeypatch)
    with pytest.raises(UnavailableError):
        FARE(load_backbone(VIT), {"released": "eps1"})
    monkeypatch.setenv(ALLOW, "1")
    FARE(load_backbone(VIT), {"released": "eps1"})
    assert (root / "weights" / "fare" / "w.pt").is_file()


def test_the_hub_is_asked_for_one_file_at_its_commit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[dict[str, Any]] = []

    def snapshot(repository: str, **more: Any) -> str:
        asked.append({"repository": repository, **more})
        return str(save(tmp_path / "w.pt").parent)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    listed(monkeypatch, url="", hub="owner/name", revision="a" * 40)
    FARE(load_backbone(VIT), {"released": "eps1"})
    monkeypatch.setenv(ALLOW, "1")
    FARE(load_backbone(VIT), {"released": "eps1"})
    assert [call["local_files_only"] for call in asked] == [True, False]
    assert asked[0]["revision"] == "a" * 40 and asked[0]["allow_patterns"] == ["w.pt"]
    assert asked[0]["repo_type"] == "model"


def test_another_backbone_or_id_says_what_there_is() -> None:
    with pytest.raises(UnavailableError, match=r"(?s)no released weights 'eps1' for miniclip-vit.*ViT-B-32-quickgelu"):
        FARE(load_backbone(VIT), {"released": "eps1"})
    with pytest.raises(GauntletError, match="did you mean eps1"):
        FARE(load_backbone(VIT), {"released": "eps-1"})


@pytest.mark.parametrize(
    "wrong", [{"url": ""}, {"hub": "a/b"}, {"url": "", "hub": "a/b", "revision": "abc"}, {"sha256": "12"}]
)
def test_a_pin_that_pins_nothing_does_not_validate(wrong: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"(?s)Released"):
        listed(monkeypatch, **wrong)
