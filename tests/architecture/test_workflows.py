"""Workflows run what they say: every action by its full commit, no more rights than needed, no fork on our machines."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

FOLDER = Path(__file__).parents[2] / ".github" / "workflows"
FILES = sorted(FOLDER.glob("*.yml"))
USES = re.compile(r"^\s*(?:-\s+)?uses:\s*(\S+)(.*)$", re.M)
PINNED = re.compile(r"[\w.-]+/[\w./-]+@[0-9a-f]{40}")


def loose(text: str) -> list[str]:
    """What is used by a name that somebody can move, or without its version in words."""
    return [
        name
        for name, rest in USES.findall(text)
        if not name.startswith("./") and not (PINNED.fullmatch(name) and re.match(r"\s+# v\d+(\.\d+)*$", rest))
    ]


def wide(workflow: dict[Any, Any]) -> list[str]:
    """Rights to write for all jobs, pull requests of forks on our machines, and jobs without an end."""
    rights = workflow.get("permissions")
    found = [] if isinstance(rights, dict) and "write" not in rights.values() else ["permissions of the workflow"]
    triggers = workflow.get("on", workflow.get(True, {}))  # YAML reads a bare `on` as true
    if "pull_request_target" in triggers:
        found.append("pull_request_target")
    for name, job in workflow["jobs"].items():
        if "pull_request" in triggers and not str(job.get("runs-on", "")).startswith("ubuntu-"):
            found.append(f"{name}: a pull request on a machine of ours")
        if "uses" not in job and "timeout-minutes" not in job:
            found.append(f"{name}: no limit of time")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_actions_are_pinned_and_rights_are_narrow(path: Path) -> None:
    text = path.read_text()
    assert loose(text) == []
    assert wide(yaml.safe_load(text)) == []


def test_the_workflows_are_these() -> None:
    assert [p.stem for p in FILES] == ["health", "nightly", "pages", "pull-request", "release"]
    publishing = [p.stem for p in FILES if "deploy-pages" in p.read_text()]
    assert publishing == ["pages"] and "gauntlet run" not in (FOLDER / "pages.yml").read_text()


@pytest.mark.parametrize("name", ["actions/checkout@v7", "actions/checkout@main", "a/b@" + "0" * 39, "a/b"])
def test_a_name_that_moves_is_caught(name: str) -> None:
    assert loose(f"steps:\n  - uses: {name} # v7\n") == [name]
    assert loose(f"steps:\n  - uses: a/b@{'0' * 40}\n") == [f"a/b@{'0' * 40}"], "no version in words"
    assert loose(f"steps:\n  - uses: a/b@{'0' * 40} # v7.0.1\n  - uses: ./here\n") == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"permissions": {"contents": "write"}}, "permissions of the workflow"), ({"permissions": None}, "permissions"),
        ({"on": {"pull_request_target": None}}, "pull_request_target"),
        ({"on": {"pull_request": None}, "jobs": {"a": {"runs-on": "gpu", "timeout-minutes": 5}}}, "machine of ours"),
        ({"jobs": {"a": {"runs-on": "ubuntu-24.04"}}}, "no limit of time"),
    ],
)  # fmt: skip
def test_wide_rights_are_caught(change: dict[str, Any], said: str) -> None:
    good: dict[str, Any] = {"on": {"push": None}, "permissions": {}, "jobs": {}}
    assert wide(good) == [] and any(said in problem for problem in wide(good | change))
