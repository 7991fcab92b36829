"""Code from outside takes neither the name of a method here nor the weights that others stand on."""

from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import torch
from torch import Tensor

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.datasets import dataset
from vlm_gauntlet.fixtures.errors import ContractError, GauntletError
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.leaderboard.rows import card_of
from vlm_gauntlet.methods import discovery, listed, own_backbone
from vlm_gauntlet.methods.base import Defence
from vlm_gauntlet.methods.listed import plain
from vlm_gauntlet.methods.registry import Method, method
from vlm_gauntlet.suites import cells
from vlm_gauntlet.suites.cells import CellPlan, plan

SOURCE = """
from vlm_gauntlet.methods.base import Defence

class {name}(Defence):
    def forward(self, images, prompts):
        return self.backbone(images, prompts)
"""


class Habit(Defence):
    """Loads its weights into the backbone that it was given, as much published code does."""

    def __init__(self, backbone: Backbone, deviations: object = None) -> None:
        super().__init__(backbone)
        state = {name: torch.randn_like(t) for name, t in backbone.clip.visual.state_dict().items()}
        backbone.clip.visual.load_state_dict(state)

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        return self.backbone(images, prompts)


class Quiet(Habit):
    """Writes past the version counters."""

    def __init__(self, backbone: Backbone, deviations: object = None) -> None:
        Defence.__init__(self, backbone)
        for parameter in backbone.clip.visual.parameters():
            parameter.data.normal_()


class Patching(Habit):
    """Replaces a method of the object."""

    def __init__(self, backbone: Backbone, deviations: object = None) -> None:
        Defence.__init__(self, backbone)
        backbone.encode_image = lambda images: torch.zeros(len(images), 16)  # type: ignore[method-assign]


class Replacing(Habit):
    """Puts another tower in."""

    def __init__(self, backbone: Backbone, deviations: object = None) -> None:
        Defence.__init__(self, backbone)
        backbone.clip.visual = torch.nn.Linear(3, 3)


class Well(Habit):
    """Works on a copy."""

    def __init__(self, backbone: Backbone, deviations: object = None) -> None:
        Defence.__init__(self, backbone)
        self.mine = backbone.tuned({n: torch.ones_like(p) for n, p in backbone.clip.visual.named_parameters()})


@pytest.fixture
def planned(monkeypatch: pytest.MonkeyPatch, tiny_backbone: Backbone) -> CellPlan:
    monkeypatch.setattr(cells, "load_backbone", lambda name, device: tiny_backbone)
    (made,) = plan(["undefended"], "tiny", ["digits"], ["clean"], limit=4)
    return made


@pytest.mark.parametrize("outside", [Habit, Quiet, Patching, Replacing])
def test_what_an_outside_class_does_to_its_backbone_reaches_nobody_else(
    planned: CellPlan, tiny_backbone: Backbone, images: Tensor, outside: type[Defence]
) -> None:
    prompts = dataset("digits").prompts
    before, key = tiny_backbone(images, prompts), planned.load().cell.key
    intruder = CellPlan(Method(f"mine.py:{outside.__name__}", outside), *list(vars(planned).values())[1:])
    with pytest.raises(ContractError, match="changed the backbone that it was given"):
        intruder.load()
    again = planned.load()
    assert again.cell.key == key and torch.equal(again.evaluation.defence(images, prompts), before)


def test_a_class_that_works_on_a_copy_is_welcome_and_stands_on_its_own(
    planned: CellPlan, tiny_backbone: Backbone
) -> None:
    guest = CellPlan(Method("mine.py:Well", Well), *list(vars(planned).values())[1:])
    first, second = guest.load(), guest.load()
    assert first.cell == second.cell and first.evaluation.defence.backbone is not tiny_backbone
    assert planned.load().evaluation.defence.backbone is tiny_backbone, "our own share one"


def test_shared_weights_that_changed_stop_the_next_cell(planned: CellPlan, tiny_backbone: Backbone) -> None:
    planned.load()
    scale = tiny_backbone.clip.logit_scale
    with torch.no_grad():
        scale += 1
    with pytest.raises(GauntletError, match=r"the weights of tiny changed in this process: clip\.logit_scale"):
        planned.load()
    with torch.no_grad():
        scale -= 1
    planned.load()


def test_a_patched_class_stops_the_next_cell(planned: CellPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Backbone, "classify", lambda *_: None)
        with pytest.raises(GauntletError, match=r"replaced Backbone\.classify"):
            planned.load()
    planned.load()


def test_digests_are_taken_once(planned: CellPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    planned.load()
    monkeypatch.setattr(own_backbone, "_digests", lambda *_: pytest.fail("read again, though nothing moved"))
    planned.load()


@pytest.mark.parametrize("name", ["tecoa", "TeCoA", "Te_Coa", "undefended", "RN", "mac", "tеcoa"])
def test_a_registered_name_from_outside_is_shown_with_its_place(tmp_path: Path, name: str) -> None:
    file = tmp_path / "winner.py"
    file.write_text(SOURCE.format(name=name))
    found = method(f"{file}:{name}")
    assert found.label == f"winner.py:{found.defence.__name__}" and card_of(found.label) is None
    assert found.label not in {method("tecoa").label, method("undefended").label}


def test_a_name_of_its_own_stays_short(tmp_path: Path) -> None:
    file = tmp_path / "winner.py"
    file.write_text(SOURCE.format(name="Winner"))
    assert method(f"{file}:Winner").label == "Winner"


def test_an_entry_point_takes_neither_name_nor_title(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "imposters.py").write_text(
        SOURCE.format(name="Honest")
        + SOURCE.format(name="Best")
        + '    card = Honest.card.model_copy(update={"name": "TeCoA"})\n'
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    entries = [
        EntryPoint(name, f"imposters:{kind}", listed.GROUP)
        for name, kind in (("TeCoA", "Honest"), ("best", "Best"), ("honest", "Honest"))
    ]
    monkeypatch.setattr(listed, "entry_points", lambda group: entries)
    found = discovery.discover()
    assert set(found.entries) == {"honest", "best"} and "TeCoA (entry point imposters:Honest)" in found.outside
    assert discovery.loaded(found.entries["honest"], found).__name__ == "Honest"
    with pytest.raises(GauntletError, match="whose card says 'TeCoA', as that of a built-in"):
        discovery.loaded(found.entries["best"], found)


def test_names_are_compared_as_the_eye_does() -> None:
    assert plain("Te-CoA") == plain("tecoa") == plain("tеcоа") == plain("ＴeCoA") != plain("tecob")
