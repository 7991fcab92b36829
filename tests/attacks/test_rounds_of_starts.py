"""PMA, output-diversified starts and A3: steps computed by hand, the ball, who is left."""

import math
from dataclasses import dataclass, field

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from vlm_gauntlet.attacks.a3 import A3, Round, learned, reach, share_of
from vlm_gauntlet.attacks.adaptive.party import Party
from vlm_gauntlet.attacks.balls import lp_norm, outside
from vlm_gauntlet.attacks.base import Attack, Plain, Run, Victim
from vlm_gauntlet.attacks.gradients import GradientAttack
from vlm_gauntlet.attacks.losses import margin
from vlm_gauntlet.attacks.odi import ODIAPGD, ODIPGD, directions
from vlm_gauntlet.attacks.pgd import PGD
from vlm_gauntlet.attacks.pma import PMA
from vlm_gauntlet.fixtures.draws import Draws, key_of

KEYS = tuple(range(40))
Toy = tuple[nn.Module, Tensor, Tensor]
SHORT = [
    PMA("linf", 0.06, steps=6), PMA("l2", 0.4, steps=4, restarts=2), ODIPGD("linf", 0.06, 4, restarts=2),
    ODIAPGD("linf", 0.06, 6, restarts=2), ODIAPGD("l2", 0.4, 5, loss="pm"), A3("linf", 0.06, rounds=3),
]  # fmt: skip


@dataclass
class Told:
    """Logits are 10 times the first pixels of the three channels; remembers what it was asked."""

    asked: list[Tensor] = field(default_factory=list)

    def __call__(self, images: Tensor) -> Tensor:
        self.asked.append(images.detach().clone())
        return 10 * images[:, :, 0, 0]

    def select(self, index: Tensor) -> "Told":
        return self


def test_pma_goes_by_one_part_then_by_both_with_steps_computed_by_hand() -> None:
    """The true class leads by far; z = 10 x. Signs by channel: -p_y (-,+,+), p_1 (-,+,-), p_1 - p_0 (-,+,+).

    Of K = 4 steps the lengths are 1, 2, 1, 2 eps: one towards the true class, one by a part, two by the whole margin.
    """
    attack, told = PMA("linf", 0.1, steps=4), Told()
    assert [attack.share(step) for step in range(4)] == pytest.approx([1, 2, 1, 2])
    clean = torch.tensor([0.8, 0.4, 0.3]).view(1, 3, 1, 1)
    attack(told, clean, torch.tensor([0]), (5,))
    moved = [((images - clean) / 0.1).flatten().tolist() for images in told.asked]
    first, second = moved[1:6], moved[6:11]  # clean; four steps and the last look of each ascent; two looks
    assert len(told.asked) == 13
    assert first[2:] == [pytest.approx([-1, 1, 1], abs=1e-5)] * 3
    assert second[2] == pytest.approx([-1, 1, -1], abs=1e-5)
    assert second[3] == pytest.approx([-1, 1, 0], abs=1e-5) and second[4] == pytest.approx([-1, 1, 1], abs=1e-5)
    for start, after in ((first[0], first[1]), (second[0], second[1])):  # + eps in channel 0, - eps in the others
        wanted = [min(1.0, start[0] + 1), max(-1.0, start[1] - 1), max(-1.0, start[2] - 1)]
        assert after == pytest.approx(wanted, abs=1e-5)
    assert first[0] != second[0], "each ascent starts at a point of its own"


def test_pma_lengths_fall_to_nearly_nothing_within_each_stage() -> None:
    lengths = [PMA("linf", 0.1, steps=100).share(step) for step in range(100)]
    assert lengths[1] == lengths[51] == 2 and lengths[50] < 0.01 and lengths[99] < 0.02
    assert lengths[26] == pytest.approx(1) and lengths[1:51] == sorted(lengths[1:51], reverse=True)


def test_two_diversified_steps_end_where_the_gradient_of_the_outputs_points() -> None:
    """Of a linear model it is W^T w everywhere; two steps of eps lead from any start to that corner of the ball."""
    generator = torch.Generator().manual_seed(2)
    weight = torch.randn(5, 48, generator=generator)
    images = 0.3 + 0.4 * torch.rand(4, 3, 4, 4, generator=generator)
    victim = Plain(lambda x: x.flatten(1) @ weight.T)
    start = ODIPGD("linf", 0.1).start(Run(victim, images, torch.zeros(4, dtype=torch.long), KEYS[:4]), 3)
    wanted = directions(KEYS[:4], torch.zeros(4, 5), 3)
    assert torch.allclose(start - images, 0.1 * (wanted @ weight).sign().view_as(images), atol=1e-6)
    assert wanted.abs().max() <= 1 and wanted.std() > 0.3
    assert not torch.equal(wanted, directions(KEYS[:4], torch.zeros(4, 5), 4)), "a restart has directions of its own"
    assert not torch.equal(wanted[:, :1], Draws(KEYS[:4], 3).uniform(torch.zeros(4, 1), -1, 1)), "not the start's noise"


def test_the_diversified_starts_of_apgd_are_those_of_pgd(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing falls: the first image that Auto-PGD sees is the start of PGD."""
    model, images, _ = toy
    labels, seen = model(images).argmax(1), []

    class Seeing(Party):
        def walk(self, images: Tensor, *others: object) -> Tensor:
            seen.append(images)
            return super().walk(images, *others)  # type: ignore[arg-type]

    monkeypatch.setattr("vlm_gauntlet.attacks.odi.Party", Seeing)
    ODIAPGD("linf", 1e-5, steps=1)(Plain(model), images, labels, KEYS)
    assert torch.allclose(seen[1], ODIPGD("linf", 1e-5).start(Run(Plain(model), images, labels, KEYS), 0), atol=1e-7)


def test_a3_learns_the_signs_of_the_directions_that_worked() -> None:
    wanted = torch.tensor([[0.5, -1.0, 0.25], [0.75, 0.5, -0.5], [9.0, 9.0, 9.0]])
    fallen, labels = torch.tensor([1, 2, -1]), torch.tensor([0, 0, 1])
    assert learned(wanted, torch.tensor([0, 1]), fallen, labels) == (-1.5, 1.25)
    assert learned(wanted, torch.tensor([], dtype=torch.long), fallen, labels) == (0, 0)


@pytest.mark.parametrize(
    ("signs", "target", "low", "high"),
    [((2.0, 1.0), 0.4, -0.05, 0.25), ((-2.0, 1.0), -0.4, -0.05, 0.25), ((-2.0, -1.0), -0.4, -0.25, 0.05),
     ((2.0, -1.0), 0.4, -0.25, 0.05), ((0.0, 0.0), 0.4, -0.25, 0.05)],
)  # fmt: skip
def test_a3_fixes_two_entries_of_a_direction_by_those_signs(
    signs: tuple[float, float], target: float, low: float, high: float
) -> None:
    """Of 5 classes: +-0.8 * 5/10 at a wrong class, half of U(-0.1, 0.5) or U(-0.5, 0.1) at the true one (class 4)."""
    logits = torch.tensor([[1.0, 4.0, 2.0, 3.0, 9.0]]).repeat(40, 1)
    run = Run(Plain(lambda x: x), torch.zeros(40, 3, 1, 1), torch.full((40,), 4), KEYS)
    for number, place in ((2, 3), (3, 2), (4, 0), (5, 1)):  # the runner-up, class 1, has had round 1
        wanted = A3.aimed(run, logits, number, signs)
        assert wanted[:, place].tolist() == pytest.approx([target] * 40)
        true = wanted[:, 4]
        assert low <= true.min() and true.max() <= high and true.max() - true.min() > 0.15
        others = [i for i in range(4) if i != place]
        assert torch.equal(wanted[:, others], directions(KEYS, logits, number)[:, others])
    assert torch.equal(A3.aimed(run, logits, 1, signs), directions(KEYS, logits, 1))


def test_a3_asks_no_signs_of_many_classes() -> None:
    run = Run(Plain(lambda x: x), torch.zeros(2, 3, 1, 1), torch.zeros(2, dtype=torch.long), KEYS[:2])
    for classes, target in ((99, -0.8 * 9.9), (100, 0.8 * 10)):
        logits = torch.arange(float(classes)).flip(0).repeat(2, 1)
        assert A3.aimed(run, logits, 2, (-1.0, 1.0))[:, 2].tolist() == pytest.approx([target] * 2)
    assert [reach(n) for n in (10, 11, 100, 101)] == [9, 14, 14, 20]


def test_a3_steps_fall_along_half_a_cosine() -> None:
    assert share_of(0, 9) == 1 and share_of(5, 9) == pytest.approx(0.55) and share_of(0, 50) == 1
    assert share_of(50, 50) == pytest.approx(0.001 + 0.999 * (1 + math.cos(math.pi * 50 / 51)) / 2)
    assert A3("linf", 0.1).total_steps == 8 + 9 * 7 + 15 + 15 + 32 + 37 + 37 + 42 + 47 + 52 + 57


def test_a3_discards_those_that_are_far_from_falling_down_to_a_floor(toy: Toy) -> None:
    model, images, _ = toy
    run = Run(Plain(model), images, model(images).argmax(1), KEYS)
    party = Party(run, margin, 1)
    party.open()
    party.close(images)
    chosen = A3("linf", 0.1, at_least=5).nearest(party, 0.3)
    heights = margin(model(images), run.labels)
    assert chosen.tolist() == sorted(heights.topk(12).indices.tolist())
    assert len(A3("linf", 0.1, at_least=20).nearest(party, 0.3)) == 20
    assert len(A3("linf", 0.1).nearest(party, 0.3)) == 40


def test_who_is_discarded_is_left_as_it_was(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    model, images, _ = toy
    labels = model(images).argmax(1)
    monkeypatch.setattr("vlm_gauntlet.attacks.a3.ROUNDS", (Round(0, 2), Round(1, 2, 0.5)))
    one, both = (A3("linf", 1e-4, rounds=n, at_least=1)(Plain(model), images, labels, KEYS) for n in (1, 2))
    same = (one.images == both.images).flatten(1).all(1)
    assert 20 <= same.sum() < 40 and not one.success.any()


@pytest.mark.parametrize("attack", SHORT, ids=lambda a: f"{a.info.name}-{a.norm}")
def test_what_falls_is_wrong_and_what_stands_is_nearer(toy: Toy, attack: Attack) -> None:
    model, images, labels = toy
    result = attack(Plain(model), images, labels, KEYS)
    right = model(images).argmax(1) == labels
    assert 5 < result.success.sum() < 40 and not result.repaired.any()
    assert torch.equal(result.images[~right], images[~right]) or isinstance(attack, PGD)
    stood = ~result.success
    assert (margin(model(result.images), labels) > margin(model(images), labels))[stood].all()


@pytest.mark.parametrize("kind", [PMA, ODIPGD, ODIAPGD, A3])
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 99), norm=st.sampled_from(["linf", "l2"]), eps=st.sampled_from([0.0, 0.03, 0.7]))
def test_nothing_leaves_the_ball_or_the_box(kind: type[GradientAttack], seed: int, norm: str, eps: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    images, weight = (
        torch.rand(4, 3, 4, 4, generator=generator).round(decimals=1),
        torch.randn(48, 4, generator=generator),
    )
    attack = A3(norm, eps, rounds=2) if kind is A3 else kind(norm, eps, steps=3)  # type: ignore[call-arg]
    run = Run(Plain(lambda x: x.flatten(1) @ weight), images, torch.tensor([0, 1, 2, 3]), KEYS[:4])
    made = attack.perturb(run)
    assert not outside(made, images, norm=norm, eps=eps).any()
    if eps == 0:
        assert torch.equal(made, images)
    assert lp_norm(made - images, norm).max() <= eps * (1 + 1e-5) + 1e-6


@dataclass
class Noisy:
    """A randomised victim on the samples' own streams."""

    model: nn.Module
    keys: tuple[int, ...]
    calls: int = 0

    def __call__(self, images: Tensor) -> Tensor:
        self.calls += 1
        logits: Tensor = self.model(images + 0.01 * Draws(self.keys, self.calls).normal(images))
        return logits

    def select(self, index: Tensor) -> "Noisy":
        return Noisy(self.model, tuple(key_of(self.keys[i], self.calls) for i in index.tolist()))


@pytest.mark.parametrize("noisy", [False, True])
@pytest.mark.parametrize(
    "attack", [PMA("linf", 0.06, steps=4, eot=2), ODIPGD("linf", 0.06, 4, eot=2), ODIAPGD("linf", 0.06, 6, restarts=2)],
    ids=lambda a: a.info.name,
)  # fmt: skip
def test_batch_split_does_not_matter(toy: Toy, attack: Attack, noisy: bool) -> None:
    model, images, labels = toy

    def victim(keys: tuple[int, ...]) -> Victim:
        return Noisy(model, keys) if noisy else Plain(model)

    assert not attack.couples_batch and A3("linf", 0.1).couples_batch
    whole = attack(victim(KEYS), images, labels, KEYS).images
    for part in (slice(0, 3), slice(3, 40)):
        alone = attack(victim(KEYS[part]), images[part], labels[part], KEYS[part]).images
        assert torch.allclose(alone, whole[part], atol=1e-6)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_what_stands_keeps_the_round_of_the_highest_margin_and_falls_with_the_image_that_was_wrong(order) -> None:
    """Rounds end at margins -3, -1 and -2 of one sample, in any order; the other falls in the last of them."""
    clean = torch.zeros(2, 3, 1, 1)
    clean[:, 0] = 0.5
    ends = [torch.tensor([0.5, second, 0.0]).view(1, 3, 1, 1).expand(2, 3, 1, 1).clone() for second in (0.2, 0.4, 0.3)]
    wrong = torch.tensor([0.5, 0.6, 0.0]).view(3, 1, 1)
    party = Party(Run(Plain(Told()), clean, torch.tensor([0, 0]), (1, 2)), margin, 1)
    for number, which in enumerate(order):
        images = ends[which].clone()
        if number == len(order) - 1:
            images[1] = wrong
        party.open()
        party.close(images)
    best = party.end()
    assert torch.equal(best[0], ends[1][0]) and torch.equal(best[1], wrong)
    assert party.height[0].item() == pytest.approx(-1, abs=1e-5) and party.standing.tolist() == [0]
    assert party.fallen.tolist() == [-1, 1]
