"""The checks of a defence from outside, in a process of its own: it may hang, eat memory or end the process."""

from vlm_gauntlet.fixtures.backbones import load_backbone
from vlm_gauntlet.fixtures.errors import GauntletError, UnavailableError
from vlm_gauntlet.methods.registry import method

from ..apart import Apart, Limits
from .costs import measure
from .report import Finding, Report
from .runner import check_defence

LIMITS = Limits(seconds=1800, memory=16 * 2**30)


def check_apart(name: str, backbone: str, device: str, limits: Limits = LIMITS) -> Report:
    """The report on a defence; where its process gives none, one that says so and fails.

    Args:
        name: of the method.
        backbone: name of what it defends.
        device: torch device.
        limits: of all checks together.

    Raises:
        UnavailableError: the defence needs a checkpoint that is not on this machine.
    """
    try:
        with Apart(Checked, name, backbone, device, what=f"check of {name}", limits=limits) as there:
            material, findings, seconds = there.ask("report")
    except UnavailableError:
        raise
    except GauntletError as error:
        return Report(name, backbone, "no pictures", (Finding("check_ends", "fail", f"{error.short}; {error.fix}"),), 0)
    return Report(name, backbone, material, tuple(Finding(*finding) for finding in findings), seconds)


def measure_apart(name: str, backbone: str, device: str, limits: Limits = LIMITS) -> str:
    """The costs of a defence, as lines of TOML; arguments as above.

    Raises:
        GauntletError: its process gives none.
    """
    with Apart(Checked, name, backbone, device, what=f"measurement of {name}", limits=limits) as there:
        return str(there.ask("costs"))


class Checked:
    """What lives in the process.

    Args:
        name, backbone, device: see `check_apart`.
    """

    def __init__(self, name: str, backbone: str, device: str) -> None:
        self.method, self.backbone = method(name), load_backbone(backbone, device)

    def report(self) -> tuple[str, list[tuple[str, str, str]], float]:
        """Material, findings and seconds of the report, as plain values."""
        made = check_defence(self.method, self.backbone)
        return made.material, [(f.check, f.status, f.sentence) for f in made.findings], made.seconds

    def costs(self) -> str:
        """See `measure_apart`."""
        return measure(self.method, self.backbone).toml()
