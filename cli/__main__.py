"""`python -m vlm_gauntlet.cli` is the `gauntlet` command."""

from .main import app

app()
