"""Every method of the tier keeps the contract, check by check."""

import pytest

from vlm_gauntlet.fixtures.backbones import load_backbone
from vlm_gauntlet.fixtures.errors import UnavailableError
from vlm_gauntlet.suites.check_records import keep
from vlm_gauntlet.suites.conformance import check_defence
from vlm_gauntlet.suites.conformance.apart import check_apart
from vlm_gauntlet.suites.described import Described, described
from vlm_gauntlet.suites.plugin import outcomes_folder
from vlm_gauntlet.suites.tiers import tier


@pytest.mark.fast
def test_method_conforms(method_name: str, pytestconfig: pytest.Config) -> None:
    try:
        backbone, device = tier("fast").backbone, pytestconfig.getoption("--device")
        chosen = described(method_name)
        if isinstance(chosen, Described):
            report = check_apart(method_name, backbone, device)
        else:
            report = check_defence(chosen, load_backbone(backbone, device))
    except UnavailableError as missing:
        pytest.skip(f"not run: {missing}")
    keep(outcomes_folder(pytestconfig), chosen, report)
    assert report.passed, report.markdown()
