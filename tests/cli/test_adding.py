"""What adding a thing costs: one file of its own, or one folder, and no edit elsewhere. Tried in a tree of links."""

import json

import pytest

from vlm_gauntlet.attacks.protocols import protocols

from .farm import copy_code, run

GREY = '''
"""Towards grey."""
from pydantic.dataclasses import dataclass
from torch import Tensor
from .base import STRICT, Attack, AttackInfo, Run


@dataclass(config=STRICT)
class Grey(Attack):
    """Moves the image towards grey."""

    info = AttackInfo("grey", "Towards grey", "ours, arXiv:0000.00000", ("linf",))
    strength: int = 1

    def perturb(self, run: Run) -> Tensor:
        """See Attack."""
        return run.images + (0.5 - run.images).clamp(-self.eps, self.eps) / self.strength
'''
PROTOCOL = (
    'title = "Grey"\neps = ["16/255"]\nknowledge = ["black-box"]\n[threat]\nnorm = "linf"\n[attack]\nname = "grey"\n'
)
ASKED = """
import json, sys, tempfile
from pathlib import Path
from vlm_gauntlet.attacks.protocols import protocols, varied
from vlm_gauntlet.attacks.registry import attacks, settable
from vlm_gauntlet.suites.cells import plan
from vlm_gauntlet.suites.journal import Journal
from vlm_gauntlet.suites.running import run_cell
from vlm_gauntlet.suites.tiers import tier

asked = protocols()["pgd-10-white-box-linf-16-255"]
cells = plan(["newcomer"], "miniclip-vit", ["digits"], ["grey-black-box-linf-16-255"], limit=2)
outcome = run_cell(cells[0], Journal(Path(tempfile.mkdtemp())))
print(json.dumps({
    "attack": "grey" in attacks(), "parameter": "annealing" in settable(attacks()["pgd"]),
    "digests": {name: p.digest for name, p in protocols().items()},
    "set": varied(asked, annealing=True).digest != asked.digest,
    "fast": "newcomer" in tier("fast").methods, "ran": [outcome.cell.id, outcome.n],
}))
"""


@pytest.fixture(scope="module")
def added(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """An attack, a parameter, a protocol and a method of the fast tier: each in one file or folder of its own."""
    tree = tmp_path_factory.mktemp("adding")
    copy_code(tree / "vlm_gauntlet")
    attacks, methods = (tree / "vlm_gauntlet" / room for room in ("attacks", "methods"))
    (attacks / "grey.py").write_text(GREY)
    pgd = (attacks / "pgd.py").read_text()
    (attacks / "pgd.py").write_text(pgd.replace("    stop: Ann", "    annealing: bool = False\n    stop: Ann"))
    (tree / "vlm_gauntlet" / "fixtures" / "data" / "protocols" / "grey.toml").write_text(PROTOCOL)
    (methods / "newcomer").mkdir()
    for file in ("__init__.py", "method.py", "card.toml", "measured.toml"):
        (methods / "newcomer" / file).write_text((methods / "rn" / file).read_text().replace('"rn"', '"newcomer"'))
    made = run(tree, "-c", ASKED)
    assert made.returncode == 0, made.stderr
    told: dict[str, object] = json.loads(made.stdout)
    return told


def test_an_attack_is_one_file_and_its_protocol_another(added: dict[str, object]) -> None:
    assert added["attack"] and added["ran"] == ["newcomer-miniclip-vit-digits-grey-black-box-linf-16-255", 2]


def test_a_parameter_is_one_line_of_its_attack_and_no_digest_moves(added: dict[str, object]) -> None:
    assert added["parameter"] and added["set"]
    digests = added["digests"]
    assert isinstance(digests, dict)
    assert {name: digests[name] for name in protocols()} == {name: p.digest for name, p in protocols().items()}


def test_a_method_of_the_fast_tier_is_one_folder(added: dict[str, object]) -> None:
    assert added["fast"]
