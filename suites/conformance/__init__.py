"""Conformance: named checks of one defence, as scikit-learn's estimator checks. What `gauntlet check` runs."""

from .bench import Bench, Material, default_material
from .report import Finding, Report, Status
from .runner import CHECKS, check_defence

__all__ = ["CHECKS", "Bench", "Finding", "Material", "Report", "Status", "check_defence", "default_material"]
