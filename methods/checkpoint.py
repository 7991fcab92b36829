"""A user's fine-tuned weights as a row of its own: `--method checkpoint:FILE`, `ttc@checkpoint:FILE`.

The backbone is the model that they were tuned from. The file's digest is in the row's name, and so in every key.
"""

import re
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.checkpoints import digest_of_file, read_state, with_state

from .base import Defence
from .card import Card, Cost
from .tuned import TunedDefence

PREFIX = "checkpoint:"


class OfFile(TunedDefence):
    """Zero-shot classification with the weights of a file, in any form that `fixtures/checkpoints.py` reads.

    Attributes:
        file: the weights.

    Raises:
        GauntletError: they do not fit the backbone.
    """

    card: ClassVar[Card] = Card(
        id="checkpoint", name="a checkpoint", paper="none", authors="unknown", year=2026, venue="none", code="none",
        code_licence="unknown", paradigm="fine-tuning", optimises="the weights of a file", threat="unknown",
        cost=Cost(forward=1, backward=0), attack_cost=Cost(forward=1, backward=1),
    )  # fmt: skip
    file: ClassVar[Path]

    def tuned_from(self, backbone: Backbone) -> Backbone:
        """See TunedDefence."""
        tower, rest = read_state(self.file)
        return with_state(backbone, tower, rest, self.file)


def of_file(address: str) -> tuple[str, type[Defence]]:
    """The label and the defence of `checkpoint:FILE`.

    Raises:
        UnavailableError: there is no such file.
    """
    path = Path(address.removeprefix(PREFIX)).expanduser()
    digest = digest_of_file(path)
    name = re.sub(r"[^\w.-]", "_", path.name)
    return f"{PREFIX}{name}:{digest[:16]}", _kind(path.resolve(), digest)


@lru_cache(maxsize=64)
def _kind(path: Path, digest: str) -> type[Defence]:
    name = f"{path.name} ({digest[:8]})"
    card = OfFile.card.model_copy(update={"name": name, "notes": (f"SHA-256 of the file: {digest}",)})
    return type("OfFile", (OfFile,), {"card": card, "file": path, "__module__": __name__})
