"""A cell's key covers all code that can change its result: in every module an edit counts, and a comment does not."""

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from vlm_gauntlet.attacks.protocols import protocol
from vlm_gauntlet.fixtures.backbones import load_backbone
from vlm_gauntlet.fixtures.closure import Closure, this_process
from vlm_gauntlet.fixtures.protocols import Protocol
from vlm_gauntlet.fixtures.snapshot import Snapshot, package_files
from vlm_gauntlet.methods.registry import Method, method
from vlm_gauntlet.suites.cells import plan
from vlm_gauntlet.suites.keys import attack_code, attack_roots, cell_code, shared_roots

PGD = "pgd-10-white-box-linf-8-255"
BLACK_BOX = "rays-100-black-box-linf-8-255"
ON_TEXT = "sep-char-1-transfer-linf-4-255"
IGNORED_BEFORE = (
    "methods/registry.py", "suites/running.py", "fixtures/backbone.py", "fixtures/draws.py", "fixtures/prompts.py",
    "fixtures/datasets.py",
)  # fmt: skip
MINE = """
from near import scale
from vlm_gauntlet.methods.base import Defence

class Mine(Defence):
    def forward(self, images, prompts):
        return scale(self.backbone(images, prompts))
"""


@pytest.fixture(scope="module")
def external(tmp_path_factory: pytest.TempPathFactory) -> Method:
    """A defence elsewhere, with a module beside it."""
    folder = tmp_path_factory.mktemp("external")
    (folder / "mine.py").write_text(MINE)
    (folder / "near.py").write_text("FACTOR = 2.0\n\n\ndef scale(x):\n    return x * FACTOR\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        return method(f"{folder / 'mine.py'}:Mine")


def names(chosen: Method, attack: str = PGD) -> set[str]:
    roots = (*shared_roots(chosen), *attack_roots(protocol(attack)))
    return set(this_process().modules(roots).values())


def edited(path: Path, edit: Callable[[bytes], bytes]) -> Closure:
    """The sources, one of them edited."""
    return Closure(Snapshot(lambda file: edit(file.read_bytes()) if file == path else file.read_bytes(), since=1e12))


def in_the_key(closure: Closure, chosen: Method, asked: Protocol) -> tuple[str, str]:
    """The code that a cell's key names: of method and scoring, and of the attack."""
    return closure.digest(shared_roots(chosen)), closure.digest(attack_roots(asked))


def another(source: bytes) -> bytes:
    """A change of what the file says: its first number becomes another, or there is one name more."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and type(node.value) in (int, float) and node.lineno == node.end_lineno:
            lines = source.split(b"\n")
            line = lines[node.lineno - 1]
            lines[node.lineno - 1] = line[: node.col_offset] + b"98765" + line[node.end_col_offset :]
            return b"\n".join(lines)
    return source + b"\n_edited = 1\n"


def dressed(source: bytes) -> bytes:
    """Other looks: comments, a docstring more, another layout."""
    return b'"""Said otherwise."""\n# said\n' + ast.unparse(ast.parse(source)).encode() + b"\n\n\n# at the end\n"


@pytest.mark.parametrize("which", ["tecoa", "ttc@tecoa", "external"])
def test_in_every_module_an_edit_changes_the_key_and_a_comment_does_not(which: str, external: Method) -> None:
    chosen = external if which == "external" else method(which)
    asked = protocol(PGD)
    closure = this_process().modules((*shared_roots(chosen), *attack_roots(asked)))
    digests = in_the_key(this_process(), chosen, asked)
    assert len(closure) > 30
    for path, name in closure.items():
        assert in_the_key(edited(path, another), chosen, asked) != digests, f"an edit of {name} is not seen"
        longer = edited(path, lambda source: source + b"\n_edited = 1\n")
        assert in_the_key(longer, chosen, asked) != digests, f"a longer {name} is not seen"
        assert in_the_key(edited(path, dressed), chosen, asked) == digests, f"a comment in {name} changes the key"


def test_the_closure_has_what_the_list_forgot(external: Method) -> None:
    everywhere = {f"vlm_gauntlet.{name[:-3].replace('/', '.')}" for name in IGNORED_BEFORE}
    assert everywhere <= names(method("undefended"))
    assert "vlm_gauntlet.methods.augmix" in names(method("tpt"))
    assert "vlm_gauntlet.fixtures.learned_prompts" in names(method("tpt"))
    assert "vlm_gauntlet.fixtures.visual_prompts" in names(method("tapt"))
    assert {"vlm_gauntlet.methods.ttc.method", "vlm_gauntlet.methods.tecoa.method"} <= names(method("ttc@tecoa"))
    assert {"mine", "near"} <= names(external)
    assert "vlm_gauntlet.methods.undefended.method" in names(method("ttc")), "every cell runs it beside the defence"


def test_a_training_script_or_another_method_does_not_count() -> None:
    found = names(method("tecoa"))
    assert not found & {"vlm_gauntlet.methods.tecoa.train", "vlm_gauntlet.training.trainer",
                        "vlm_gauntlet.methods.ttc.method", "vlm_gauntlet.methods.cola.method"}  # fmt: skip
    assert not any(name.startswith(("vlm_gauntlet.cli", "vlm_gauntlet.leaderboard")) for name in found)


def test_an_edit_in_an_attack_that_the_cell_does_not_use_does_not_change_the_key() -> None:
    chosen, asked = method("undefended"), protocol(PGD)
    digests = in_the_key(this_process(), chosen, asked)
    for name in ("rays", "square", "fab", "multimodal.sga"):
        (path,) = (file for file, known in package_files().items() if known == f"vlm_gauntlet.attacks.{name}")
        assert in_the_key(edited(path, another), chosen, asked) == digests, name


def test_the_attack_that_the_protocol_names_counts() -> None:
    for attack, modules in ((PGD, ["pgd"]), (BLACK_BOX, ["rays"]), (ON_TEXT, ["text.bert_attack"]), ("clean", [])):
        assert {f"vlm_gauntlet.attacks.{name}" for name in modules} <= set(attack_roots(protocol(attack)))
    codes = [
        attack_code(protocol(name), {}, load_backbone("miniclip-vit")) for name in ("clean", PGD, BLACK_BOX, ON_TEXT)
    ]
    assert codes[0] == "" and len(set(codes)) == 4


def test_outcomes_of_all_attacks_share_the_code_of_the_method() -> None:
    """The board puts outcomes of one version into a row: the attacks' code must not part them."""
    made = [cell.load().cell for cell in plan(["undefended"], "miniclip-vit", ["digits"], ["clean", PGD], limit=1)]
    assert made[0].code_digest == made[1].code_digest and made[0].attack_digest != made[1].attack_digest
    other = made[1].model_copy(update={"attack_digest": "x"})
    assert other.key != made[1].key


def test_the_architecture_of_an_embedded_backbone_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its digest is that of the weights alone."""
    from vlm_gauntlet.suites import keys

    chosen = method("undefended")
    before = cell_code(chosen, "miniclip-vit")
    assert len({before, cell_code(chosen, "miniclip-cnn"), cell_code(chosen, "open_clip:a/b")}) == 3
    config = (keys.embedded()["miniclip-vit"] / keys.CONFIG).read_text()
    (tmp_path / keys.CONFIG).write_text(re.sub(r'"mean": \[\s*[\d.]+', '"mean": [\n0.123', config))
    monkeypatch.setattr(keys, "embedded", lambda: {"miniclip-vit": tmp_path})
    assert cell_code(chosen, "miniclip-vit") != before


RAN = """
import json, sys, tempfile
from pathlib import Path
from vlm_gauntlet.attacks.protocols import protocols
from vlm_gauntlet.fixtures.closure import this_process
from vlm_gauntlet.fixtures.snapshot import package_files
from vlm_gauntlet.methods.registry import method, methods
from vlm_gauntlet.suites.journal import Journal
from vlm_gauntlet.suites.keys import attack_roots, shared_roots
from vlm_gauntlet.suites.cells import plan
from vlm_gauntlet.suites.running import run_cell

methods(), protocols()  # registries import everything; what counts is what a cell then calls
for asked in sys.argv[1:]:
    files = set()
    sys.setprofile(lambda frame, event, _: files.add(frame.f_code.co_filename))
    (cell,) = plan([asked.split()[0]], "miniclip-vit", ["digits"], [asked.split()[1]], limit=2)
    run_cell(cell, Journal(Path(tempfile.mkdtemp())))
    sys.setprofile(None)
    called = {package_files().get(Path(file).resolve()) for file in files} - {None}
    key = set(this_process().modules((*shared_roots(method(asked.split()[0])), *attack_roots(cell.protocol))).values())
    print(json.dumps([asked, sorted(called & key), sorted(called - key)]))
"""
# What a run calls without that it could change a result: it says what there is, and what it is called.
OUTSIDE: frozenset[str] = frozenset()


def test_whatever_a_run_calls_is_in_its_key(external: Method) -> None:
    """Whoever imports by a computed name sees it here, and makes it a root."""
    asked = [f"ttc@tecoa {PGD}", f"undefended {ON_TEXT}", f"{external.name} {BLACK_BOX}"]
    found = os.pathsep.join([external.name.rpartition("/")[0], *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", RAN, *asked], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": found}
    )
    assert done.returncode == 0, done.stderr
    for line in done.stdout.splitlines():
        cell, inside, outside = json.loads(line)
        assert len(inside) > 15, cell
        assert set(outside) <= OUTSIDE, f"{cell}: called, and in no closure: {outside}"
