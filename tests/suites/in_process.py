"""Cells that run in the test's own process: another one would know neither its small backbone nor its classes."""

from contextlib import nullcontext
from types import ModuleType

import pytest

from vlm_gauntlet.suites.attacking import Here
from vlm_gauntlet.suites.scoring import InProcess


def stay_here(monkeypatch: pytest.MonkeyPatch, *modules: ModuleType) -> None:
    """Modules that ask for an attacker and a witness get those of this process."""
    for module in modules:
        monkeypatch.setattr(module, "attacker", lambda plan: nullcontext(Here(plan.load())))
        monkeypatch.setattr(module, "witness", lambda plan, _: nullcontext(InProcess(plan.load().evaluation.defence)))
