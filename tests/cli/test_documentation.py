"""What the documentation shows is true: its code runs, its names exist, its commands are those of the command line."""

import re
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
import torch

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.draws import Draws
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.methods.base import Defence
from vlm_gauntlet.methods.registry import method

ROOT = Path(__file__).parents[2]
BLOCKS = [
    (page.name, re.sub(r"(?m)^ {4}", "", block) if block.startswith(" ") else block)
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
    for block in re.findall(r"```python\n(.*?)```", page.read_text(), re.S)
]
API = (ROOT / "docs" / "what-a-defence-may-use.md").read_text()


@pytest.mark.parametrize(("page", "code"), BLOCKS, ids=[name for name, _ in BLOCKS])
def test_the_defences_of_the_pages_defend(page: str, code: str, tiny_backbone: Backbone, tmp_path: Path) -> None:
    file, name = tmp_path / "mine.py", re.findall(r"class (\w+)\(Defence\)", code)[0]
    file.write_text(code)
    kind = method(f"{file}:{name}").defence
    prompts = PromptSet.from_templates(["cat", "dog", "ship"], ["a photo of a {c}."])
    images = torch.rand(4, 3, tiny_backbone.image_size, tiny_backbone.image_size)
    defence, keys = kind(tiny_backbone), (1, 2, 3, 4)
    logits = defence(images, prompts, draws=Draws(keys))
    assert torch.equal(logits, defence(images, prompts, draws=Draws(keys))) and logits.shape == (4, 3)
    assert kind.card.randomised == (not torch.equal(logits, defence(images, prompts, draws=Draws((5, 6, 7, 8)))))
    assert torch.allclose(logits, defence(images, prompts, draws=Draws(keys), gradient="straight-through"), atol=1e-5)


@pytest.mark.parametrize(("where", "name"), re.findall(r"::: ([\w.]+)\.([A-Z]\w+)\n", API))
def test_what_the_page_names_is_there(where: str, name: str) -> None:
    kind = getattr(__import__(where, fromlist=[name]), name)
    for members in re.findall(rf"::: {re.escape(where)}\.{name}\n    options:\n      members: \[(.*)\]", API):
        assert [member for member in members.split(", ") if not hasattr(kind, member)] == []


def test_the_parts_that_an_author_may_write_are_all_told() -> None:
    told = re.findall(r"^\| `(\w+)` \| ", API.split("| you may write |")[1], re.M)
    assert all(hasattr(Defence, part) for part in told)
    final = {"behind_backbone", "gate_margin_on", "branch_logits_on"}
    written = {n for n, v in vars(Defence).items() if callable(v) and not n.startswith("_") and not isinstance(v, classmethod)}  # noqa: E501  # fmt: skip
    assert written - final - {"forward"} == set(told)


@pytest.mark.skipif(find_spec("mkdocs") is None, reason="no mkdocs: `make docs` installs it")
def test_the_page_of_commands_comes_from_the_command_line() -> None:
    spec = spec_from_file_location("commands", ROOT / "docs" / "commands.py")
    assert spec is not None and spec.loader is not None
    spec.loader.exec_module(commands := module_from_spec(spec))
    text = commands.page()
    assert "## `gauntlet run`" in text and "--tier" in text and "\b" not in text
    assert "```\ngauntlet doctor\n" in text
