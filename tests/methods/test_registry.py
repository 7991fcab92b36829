"""Names find defences; wrong names say what was meant."""

from pathlib import Path

import pytest
import torch

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.backbones import load_backbone
from vlm_gauntlet.fixtures.errors import GauntletError
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.methods import registry
from vlm_gauntlet.methods.card import MEASURED, Cost, read_card
from vlm_gauntlet.methods.registry import method
from vlm_gauntlet.methods.ttc.method import TTC

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
    assert method(f"{copy}:Grey").digest == found.digest, (
        "code has a digest of its own in the cell: tests/suites/test_keys"
    )


@pytest.mark.parametrize(
    ("text", "came"),
    [
        ("def f(:\n", "defence that raises SyntaxError: invalid syntax"),
        ("\n1 / 0\n", "defence that raises ZeroDivisionError"),
        ("import sys\nsys.exit(3)\n", "defence that ends the program (SystemExit: 3)"),
        ("import nowhere_at_all\n", "No module named 'nowhere_at_all'"),
    ],
)
def test_an_external_file_that_does_not_load_is_one_clear_error(tmp_path: Path, text: str, came: str) -> None:
    file = tmp_path / "mine.py"
    file.write_text(text)
    with pytest.raises(GauntletError) as caught:
        method(f"{file}:Mine")
    assert came in caught.value.came
    assert "line" in caught.value.where or caught.value.where == "--method"


def test_measurements_are_on_the_card_and_in_no_digest(tmp_path: Path) -> None:
    files = {
        "plain": {},
        "timed": {MEASURED: "attack_cost = { forward = 2, backward = 1 }\n"},
        "renamed": {"other.toml": "attack_cost = { forward = 2, backward = 1 }\n"},
    }
    found = {}
    for place, more in files.items():
        folder = tmp_path / place / "grey"
        folder.mkdir(parents=True)
        card = (Path(registry.__file__).parent / "rn" / "card.toml").read_text().replace('"rn"', '"grey"')
        for name, text in {"method.py": EXTERNAL, "card.toml": card, **more}.items():
            (folder / name).write_text(text)
        found[place] = method(f"{folder}/method.py:Grey")
    assert found["timed"].card.attack_cost == Cost(forward=2, backward=1) and found["plain"].card.attack_cost is None
    assert found["timed"].digest == found["plain"].digest != found["renamed"].digest


def test_a_measurement_cannot_change_the_card(tmp_path: Path) -> None:
    folder = tmp_path / "rn"
    folder.mkdir()
    (folder / "card.toml").write_text((Path(registry.__file__).parent / "rn" / "card.toml").read_text())
    (folder / MEASURED).write_text("randomised = false\n")
    with pytest.raises(GauntletError, match="randomised"):
        read_card(folder)


def test_folder_name_is_card_id(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "card.toml").write_text((Path(registry.__file__).parent / "rn" / "card.toml").read_text())
    with pytest.raises(GauntletError, match="card id 'rn' in folder 'mine'"):
        read_card(folder)


def test_a_test_time_defence_stands_on_a_fine_tuned_tower(tmp_path: Path) -> None:
    backbone = load_backbone("miniclip-vit")
    composed = method("ttc+gate_off=zero@tecoa")
    defence = composed.build(backbone)
    assert isinstance(defence, TTC) and defence.deviations["gate_off"] == "zero"
    assert defence.gate_backbone is backbone, "the gate keeps the original tower"
    robust, below = method("tecoa").build(backbone), method("undefended").build(defence.backbone)
    prompts = PromptSet.from_templates(["cat", "dog"], ["a photo of a {c}."])
    pictures = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(below(pictures, prompts), robust(pictures, prompts)), "what a transfer attack sees"
    assert composed.label == "ttc+gate_off=zero@tecoa" and composed.card.name == "TTC on TeCoA"
    assert composed.card.cost is None and composed.card.attack_cost is None and composed.card.timings == ()
    assert set(composed.card.weights) == {"miniclip-cnn", "miniclip-vit"}
    assert len({composed.digest, method("ttc+gate_off=zero").digest, method("ttc@tecoa").digest}) == 3
    folder = tmp_path / "me@home"
    folder.mkdir()
    (folder / "grey.py").write_text(EXTERNAL)
    assert method(f"{folder}/grey.py:Grey").label == "Grey"
    assert method(f"{folder}/grey.py:Grey@tecoa").label == "Grey@tecoa"


@pytest.mark.parametrize(
    ("name", "message"), [("ttc@tekoa", "did you mean tecoa"), ("ttc@rn", "rn has no fine-tuned tower")]
)
def test_only_a_fine_tuned_tower_carries_another_defence(name: str, message: str, tiny_backbone: Backbone) -> None:
    with pytest.raises(GauntletError, match=message):
        method(name).build(tiny_backbone)
