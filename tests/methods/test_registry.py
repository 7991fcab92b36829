"""Names find defences; wrong names say what was meant; a clash names both places."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.errors import GauntletError
from vlm_gauntlet.methods import registry
from vlm_gauntlet.methods.card import read_card
from vlm_gauntlet.methods.registry import method, methods

EXTERNAL = '''
"""A defence that lives elsewhere."""

from vlm_gauntlet.methods.base import Defence


class Grey(Defence):
    """Classifies the grey picture."""

    def forward(self, images, prompts):
        return self.backbone(images.mean(1, keepdim=True).expand_as(images), prompts)


NOT_A_DEFENCE = 3
'''


def test_as_coded_chooses_every_switch(tiny_backbone: Backbone) -> None:
    released = method("clipure_cos+as_coded").build(tiny_backbone)
    assert released.deviations == {d.name: d.as_coded for d in released.card.deviations}
    partly = method("clipure_cos+step=as_coded").build(tiny_backbone)
    assert partly.deviations["step"] == "as_coded" and partly.deviations["norm"] == "per-sample"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tekoa", "did you mean tecoa"),
        ("clipure_cos+stepp=as_coded", "did you mean step"),
        ("clipure_cos+step=as_codedd", "did you mean as_coded"),
        ("clipure_cos+step", "step, norm, graph"),
        ("nowhere.module:Thing", "no defence at"),
        ("missing.py:Thing", "no defence at"),
    ],
)
def test_wrong_names_are_explained(name: str, message: str, tiny_backbone: Backbone) -> None:
    with pytest.raises(GauntletError, match=message):
        method(name).build(tiny_backbone)


def test_external_file_and_what_it_must_hold(tmp_path: Path) -> None:
    file = tmp_path / "grey.py"
    file.write_text(EXTERNAL)
    found = method(f"{file}:Grey")
    assert found.label == "Grey" and found.card.paradigm == "external"
    with pytest.raises(GauntletError, match="a subclass of"):
        method(f"{file}:NOT_A_DEFENCE")
    copy = tmp_path / "copy.py"
    copy.write_text(EXTERNAL + "\n# changed\n")
    assert method(f"{copy}:Grey").digest != found.digest, "other code, other cell key"


def test_a_clash_names_both_places(monkeypatch: pytest.MonkeyPatch) -> None:
    clash = SimpleNamespace(name="ttc", value="elsewhere.mod:Mine")
    monkeypatch.setattr(registry, "entry_points", lambda group: [clash])
    methods.cache_clear()
    try:
        with pytest.raises(GauntletError, match=r"ttc/method\.py and entry point elsewhere"):
            methods()
    finally:
        monkeypatch.undo()
        methods.cache_clear()


def test_folder_name_is_card_id(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "card.toml").write_text((Path(registry.__file__).parent / "rn" / "card.toml").read_text())
    with pytest.raises(GauntletError, match="card id 'rn' in folder 'mine'"):
        read_card(folder)
