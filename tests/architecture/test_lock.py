"""requirements.lock: every version that constraints.txt names for an installation with its tests, with hashes."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
CONSTRAINTS = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.M))
ELSEWHERE = re.compile(r"sys_platform == '(win32|emscripten)'")
BLOCK = re.compile(r"^([\w.-]+)==([^\s;]+)([^\n]*?)\\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", re.M)


def plain(name: str) -> str:
    """A package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def faults(lock: str) -> list[str]:
    """What of a lock file is neither a version of constraints.txt nor a hash of it."""
    pins = {plain(name): version for name, version in CONSTRAINTS.items()}
    found = [line for line in BLOCK.sub("", lock).splitlines() if line.strip()]
    return found + [
        f"{name}=={version}"
        for name, version, where, _ in BLOCK.findall(lock)
        if pins.get(plain(name)) != version and not ELSEWHERE.search(where)
    ]


def test_the_lock_is_of_these_versions_and_names_no_place() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    assert faults(lock) == [], "make lock"
    locked = {plain(name) for name, *_ in BLOCK.findall(lock)}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [
        *project["dependencies"],
        *project["optional-dependencies"]["test"],
        *project["optional-dependencies"]["dev"],
    ]
    assert {plain(Requirement(one).name) for one in asked} <= locked, "make lock"


@pytest.mark.parametrize(
    "planted",
    ["numpy==0.0.1 \\\n    --hash=sha256:" + "0" * 64 + "\n", "--index-url https://example.org/simple\n", "numpy==2\n",
     "torch @ file:///tmp/torch.whl\n"],
)  # fmt: skip
def test_another_version_a_place_and_a_pin_without_hash_are_seen(planted: str) -> None:
    assert len(faults((ROOT / "requirements.lock").read_text() + planted)) == 1
