"""Every part of this project can be used. A broken one stops nothing else, so that it is this that fails for it."""

import pytest

from vlm_gauntlet.leaderboard.left_out import EVERYTHING, left_out

pytestmark = [pytest.mark.fast, pytest.mark.mini, pytest.mark.nightly, pytest.mark.full]


@pytest.mark.parametrize("module", EVERYTHING, ids=lambda name: name.removeprefix("vlm_gauntlet."))
def test_every_part_can_be_used(module: str) -> None:
    lost = left_out(module)
    own = [part for part in lost if not part.outside]
    assert not own, "\n".join(f"{part.kind} {part.name!r}: {part.error}" for part in own)
    if lost:
        pytest.skip(f"an installed package brings what cannot be used: {'; '.join(map(str, lost))}")
