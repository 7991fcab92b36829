"""Packages are found by folder, so that a new method edits no file. All else stands in pyproject.toml."""

from setuptools import find_namespace_packages, setup

ROOMS = ["fixtures", "attacks", "methods", "suites", "leaderboard", "cli"]
found = find_namespace_packages(include=[pattern for room in ROOMS for pattern in (room, f"{room}.*")])
setup(packages=[f"vlm_gauntlet.{name}" for name in found])
