"""What a defence's source says that its answers may depend on, besides the image: a note for whoever reads the report.

It reads the syntax tree of the class's module. What it names is often honest; what it does not name may still be there.
"""

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

from vlm_gauntlet.methods.base import Defence

from .bench import Bench
from .report import Status

LOOKS_AROUND = {
    "inspect": "frames of whoever calls", "gc": "all objects in memory", "traceback": "frames of whoever calls",
    "ctypes": "memory itself", "multiprocessing": "which process it runs in", "tempfile": "files between processes",
    "socket": "the network", "subprocess": "other programs", "pickle": "code in files", "time": "the clock",
    "datetime": "the clock", "threading": "other threads",
}  # fmt: skip
ATTRIBUTES = {
    "_getframe": "frames of whoever calls", "f_locals": "frames of whoever calls", "f_back": "frames of whoever calls",
    "environ": "the environment", "getpid": "which process it runs in", "getenv": "the environment",
    "modules": "other modules", "__subclasses__": "other classes",
}  # fmt: skip
CALLS = {"open": "files", "eval": "code in texts", "exec": "code in texts", "globals": "its module", "id": "identities"}
MUTATING = frozenset({"append", "add", "update", "extend", "insert", "setdefault", "pop", "clear", "appendleft"})


def check_source_looks_at_images_alone(bench: Bench) -> tuple[Status, str]:
    """Names what the source reads besides its input, and what it writes outside itself. Never fails."""
    found = list(dict.fromkeys(reads_and_writes(bench.method.defence)))
    if not found:
        return "pass", "the source reads no frames, no memory, no files, no clock, and writes nothing outside itself"
    shown = "; ".join(found[:6]) + (f"; and {len(found) - 6} more" if len(found) > 6 else "")
    return "warn", f"look at {shown}. A replay in a fresh process judges whether answers depend on it"


def reads_and_writes(kind: type[Defence]) -> Iterator[str]:
    """What the class's module reads or changes, with lines: `sys._getframe, line 12 (frames of whoever calls)`."""
    tree = ast.parse(Path(inspect.getfile(kind)).read_text())
    module = {name for node in tree.body for name in _bound(node)}
    classes = {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
    for function in ast.walk(tree):
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            for node in ast.walk(function):
                yield from _written(node, module | classes)
    for node in ast.walk(tree):
        yield from _read(node)


def _read(node: ast.AST) -> Iterator[str]:
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
        for name in names:
            if why := LOOKS_AROUND.get(name.split(".")[0]):
                yield f"import of {name}, line {node.lineno} ({why})"
    elif isinstance(node, ast.Attribute):
        if why := ATTRIBUTES.get(node.attr):
            yield f"{node.attr}, line {node.lineno} ({why})"
        elif node.attr == "keys" and isinstance(node.value, ast.Attribute) and node.value.attr == "draws":
            yield f"draws.keys, line {node.lineno} (the keys of its random streams)"
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and (why := CALLS.get(node.func.id)):
        yield f"{node.func.id}(), line {node.lineno} ({why})"


def _written(node: ast.AST, shared: set[str]) -> Iterator[str]:
    """A change, inside a function, of a name that the module or a class shares."""
    if isinstance(node, (ast.Global, ast.Nonlocal)):
        yield f"{'global' if isinstance(node, ast.Global) else 'nonlocal'} {', '.join(node.names)}, line {node.lineno}"
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in MUTATING:
        if (name := _root(node.func.value)) in shared:
            yield f"{name}.{node.func.attr}(), line {node.lineno} (state of the module)"
    elif isinstance(node, (ast.Assign, ast.AugAssign, ast.Delete)):
        targets = [node.target] if isinstance(node, ast.AugAssign) else node.targets
        for target in targets:
            if isinstance(target, (ast.Subscript, ast.Attribute)) and (name := _root(target)) in shared | {"type"}:
                yield f"{ast.unparse(target)} set, line {node.lineno} (state of the module or class)"


def _root(node: ast.AST) -> str:
    """`SEEN[0].x` -> `SEEN`; `type(self).x` -> `type`."""
    while isinstance(node, (ast.Subscript, ast.Attribute, ast.Call)):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""


def _bound(node: ast.stmt) -> Iterator[str]:
    if isinstance(node, (ast.Assign, ast.AnnAssign)):
        for target in [node.target] if isinstance(node, ast.AnnAssign) else node.targets:
            if isinstance(target, ast.Name):
                yield target.id
