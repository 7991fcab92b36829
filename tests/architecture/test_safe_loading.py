"""No data becomes code: weights come as safetensors, or through `torch.load(..., weights_only=True)`.

Nothing is unpickled, evaluated, fetched as code from a hub, or handed to a shell.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("fixtures", "attacks", "training", "methods", "suites", "leaderboard", "cli", "tests")
CODE = sorted(p.relative_to(ROOT) for room in ROOMS for p in (ROOT / room).rglob("*.py"))
PICKLERS = {"pickle", "_pickle", "cPickle", "dill", "joblib", "cloudpickle", "shelve", "marshal", "jsonpickle"}
WANTED = {"weights_only": True, "allow_pickle": False, "shell": False, "trust_remote_code": False}
RUNNERS = {"eval", "exec", "compile"}  # as plain names: `model.eval()` and `re.compile()` are others
DOWNLOADS = {"download_url_to_file"}  # of torch.hub: bytes, and no code
CALLS = ("yaml.load", "yaml.full_load", "yaml.unsafe_load", "os.system", "os.popen", "torch.hub.load", "torch.jit.load",
         "torch.package.PackageImporter", "hub.load",
         "subprocess.getoutput", "subprocess.getstatusoutput", "shutil.unpack_archive", "runpy.run_path")  # fmt: skip


def unsafe(source: str) -> list[str]:
    """What a module does that can run code out of a data file, one phrase each."""
    return [phrase for node in ast.walk(ast.parse(source)) for phrase in _phrases(node)]


def _phrases(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (f"import {a.name}" for a in node.names if a.name.partition(".")[0] in PICKLERS)
    elif isinstance(node, ast.ImportFrom) and node.module:
        stem, names = node.module.partition(".")[0], {a.name for a in node.names}
        hidden = {"torch": {"load", "hub"}, "numpy": {"load"}, "os": {"system", "popen"}}.get(stem, set())
        if node.module.startswith("torch.hub"):
            hidden = names - DOWNLOADS
        if stem in PICKLERS or names & hidden:
            yield f"from {node.module} import ..."
    elif isinstance(node, ast.Call):
        called = ast.unparse(node.func)
        given = {k.arg: k.value for k in node.keywords}
        if called == "torch.load" and "weights_only" not in given:
            yield "torch.load without weights_only"
        if called.endswith(".read_pickle") or called in RUNNERS or called in CALLS:
            yield called
        if called.endswith(".extractall") and "filter" not in given and "wheel" not in called:
            yield f"{called} without a filter"  # of zip files zipfile itself drops what leads outside
        for name, wanted in WANTED.items():
            if name in given and not (isinstance(given[name], ast.Constant) and given[name].value is wanted):
                yield f"{called}({name}={ast.unparse(given[name])})"


@pytest.mark.parametrize("path", CODE, ids=str)
def test_nothing_is_unpickled(path: Path) -> None:
    assert unsafe((ROOT / path).read_text()) == []


def test_no_product_writes_a_pickle() -> None:
    writers = ("torch.save(", "jit.save(")
    product = [path for path in CODE if path.parts[0] != "tests"]
    assert [path for path in product if any(w in (ROOT / path).read_text() for w in writers)] == []


@pytest.mark.parametrize(
    "line",
    [
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "torch.load(a); torch.load(b, weights_only=True)",
        "torch.load(path)  # weights_only=True",
        "import os, pickle",
        "from pickle import loads",
        "from torch import load",
        "import joblib",
        "frame = pd.read_pickle(f)",
        "np.load(f, allow_pickle = True)",
        "open_clip.create_model(name, weights_only=trusted)",
        "yaml.load(text, yaml.Loader)",
        "from marshal import loads",
        "model = torch.hub.load('owner/name', 'model')",
        "from torch import hub",
        "from torch.hub import load",
        "torch.jit.load(path)",
        "eval(card['step'])",
        "exec(text)",
        "compile(text, name, 'exec')",
        "os.system(command)",
        "from os import system",
        "subprocess.run(command, shell=True)",
        "subprocess.run(command, shell=asked)",
        "AutoModel.from_pretrained(name, trust_remote_code=True)",
        "tar.extractall(target)",
    ],
)
def test_unsafe_loading_is_caught(line: str) -> None:
    assert len(unsafe(line)) == 1


def test_safe_loading_is_not() -> None:
    assert unsafe("torch.load(\n    path,\n    weights_only=True)\nnp.load(f, allow_pickle=False)\nimport json") == []
    assert unsafe("model.eval()\nre.compile(p)\nsubprocess.run([a, b])\nt.extractall(to, filter='data')") == []
