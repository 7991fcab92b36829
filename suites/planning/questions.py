"""What an attack asks for one image: gradients of its victim, plain answers, gradients of other models.

Upper bounds: of an image that no attack breaks, so that none leaves early. `tests/suites/test_planned_questions.py`
counts them on a model.
"""

from dataclasses import dataclass
from functools import singledispatch

from vlm_gauntlet.attacks.a3 import A3, ROUNDS
from vlm_gauntlet.attacks.adaptive.ensemble import AdaptiveEnsemble
from vlm_gauntlet.attacks.autoattack import APGDT, AutoPGD
from vlm_gauntlet.attacks.base import Attack
from vlm_gauntlet.attacks.ensembles import Ensemble
from vlm_gauntlet.attacks.fab import FABT
from vlm_gauntlet.attacks.fmn import FMN
from vlm_gauntlet.attacks.gradients import GradientAttack
from vlm_gauntlet.attacks.multimodal.ascent import PairAscent
from vlm_gauntlet.attacks.multimodal.dra import DRA
from vlm_gauntlet.attacks.multimodal.sga import SGA
from vlm_gauntlet.attacks.noise import Noise
from vlm_gauntlet.attacks.odi import ODIAPGD, ODIPGD
from vlm_gauntlet.attacks.pgd import PGD
from vlm_gauntlet.attacks.pma import PARTS, PMA
from vlm_gauntlet.attacks.rays import RayS
from vlm_gauntlet.attacks.square import Square
from vlm_gauntlet.attacks.text.bert_attack import TextAttack
from vlm_gauntlet.attacks.transfer_query import TransferQuery
from vlm_gauntlet.attacks.universal import Universal


@dataclass(frozen=True)
class Questions:
    """What is asked for one image.

    Args:
        gradients: of the victim, each with one draw.
        answers: of the victim, without a gradient.
        towers: gradients of a bare image tower, of the images transferred from one or of features.
    """

    gradients: int = 0
    answers: int = 0
    towers: int = 0

    def __add__(self, other: "Questions") -> "Questions":
        return Questions(self.gradients + other.gradients, self.answers + other.answers, self.towers + other.towers)


@dataclass(frozen=True)
class Setting:
    """What the number of questions depends on beside the attack.

    Args:
        classes: of the data set.
        randomised: whether the victim draws; gradients of one that does not are never averaged.
        sources: models that images are transferred from.
        ways: dearer gradients that the defence offers beside the given one (`relaxed`, `unrolled`).
        redirects: what else bends its gradient (`gate_margin`, `branch_logits`).
    """

    classes: int = 1000
    randomised: bool = False
    sources: int = 1
    ways: int = 0
    redirects: int = 0


@singledispatch
def questions(attack: object, setting: Setting) -> Questions | None:
    """What the attack asks for one image, one success check included; None of an attack that nobody here knows."""
    return Questions() if attack is None else None


def _draws(attack: Attack, setting: Setting) -> int:
    return attack.averaged_draws if setting.randomised else 1


@questions.register
def _(attack: PGD, setting: Setting) -> Questions:
    draws = _draws(attack, setting)
    bent = (attack.evasion > 0) + draws * (attack.branches > 0)
    starts = draws if attack.loss in ("dlr", "ce-targeted", "dlr-targeted") else 0
    pseudo = attack.labels == "pseudo"
    return Questions(attack.total_steps * (draws + bent), attack.restarts + 1 + pseudo + starts)


@questions.register
def _(attack: ODIPGD, setting: Setting) -> Questions:
    plain = questions.dispatch(PGD)(attack, setting)
    return (plain or Questions()) + Questions(answers=attack.restarts)


@questions.register
def _(attack: PMA, setting: Setting) -> Questions:
    return _by_rounds(attack, len(PARTS) * attack.restarts, setting)


@questions.register
def _(attack: ODIAPGD, setting: Setting) -> Questions:
    return _by_rounds(attack, attack.restarts, setting)


@questions.register
def _(attack: A3, setting: Setting) -> Questions:
    return _by_rounds(attack, len(ROUNDS[: attack.rounds]), setting)


def _by_rounds(attack: GradientAttack, rounds: int, setting: Setting) -> Questions:
    """One gradient at the clean image, and a look at the end of each round."""
    draws = _draws(attack, setting)
    return Questions((attack.total_steps + 1) * draws, rounds * draws + 2)


@questions.register
def _(attack: AutoPGD, setting: Setting) -> Questions:
    draws = _draws(attack, setting)
    goals = min(attack.n_targets, setting.classes - 1) if isinstance(attack, APGDT) and setting.classes > 3 else 1
    runs = goals * attack.restarts
    return Questions((runs * (attack.steps + 1) + 1) * draws, (runs + 1) * draws + 2)


@questions.register
def _(attack: FABT, setting: Setting) -> Questions:
    targets = min(attack.n_targets, setting.classes - 1)
    return Questions(targets * attack.steps + 1, targets * (attack.steps + 1) + 2)


@questions.register
def _(attack: FMN, setting: Setting) -> Questions:
    return Questions(attack.steps * _draws(attack, setting), 1)


@questions.register
def _(attack: Ensemble, setting: Setting) -> Questions:
    total, draws = Questions(answers=2), _draws(attack, setting)
    for part in attack.parts(setting.classes).values():
        total += (questions(part, setting) or Questions()) + Questions(answers=draws - 1)
    return total


@questions.register
def _(attack: AdaptiveEnsemble, setting: Setting) -> Questions:
    random = setting.randomised
    eot, looks = (attack.eot, attack.looks) if random else (1, 1)
    ways, redirects, sources = (setting.ways, setting.redirects, setting.sources) if attack.parts else (0, 0, 0)
    ascents = 2 + min(attack.n_targets, setting.classes - 1) + ways + redirects
    total = Questions(eot, eot + 1) + Questions(answers=sources * looks, towers=sources * attack.steps)
    for number in range(attack.rounds):
        steps = attack.steps * 2 ** ((number + 1) // 2 if random else number)
        last = eot * 2 ** (number // 2) if random else eot
        gradients = sum(max(1, last >> (3 - 4 * step // steps)) for step in range(steps))
        total += Questions(ascents * gradients + redirects * steps, ascents * looks + looks + (looks > 1))
    return total


@questions.register
def _(attack: Square, setting: Setting) -> Questions:
    return Questions(answers=attack.queries + 2)


@questions.register
def _(attack: TransferQuery, setting: Setting) -> Questions:
    each = attack.steps * setting.sources
    return Questions(answers=attack.queries + 3 + 2 * setting.sources, towers=each)


@questions.register
def _(attack: RayS, setting: Setting) -> Questions:
    return Questions(answers=attack.queries + 2)


@questions.register
def _(attack: Noise, setting: Setting) -> Questions:
    return Questions(answers=attack.queries + 1)


@questions.register
def _(attack: Universal, setting: Setting) -> Questions:
    return Questions(answers=1)


@questions.register
def _(attack: PairAscent, setting: Setting) -> Questions:
    looks = attack.combinations if isinstance(attack, DRA) else 0
    copies = 1 + len(attack.scales) if isinstance(attack, SGA) else 1
    return Questions(towers=attack.steps * (copies + 2 * looks) + copies + 3)


@questions.register
def _(attack: TextAttack, setting: Setting) -> Questions:
    own = questions.dispatch(PGD)(attack, setting) if isinstance(attack, PGD) else None
    return (own or Questions()) + Questions(answers=1)
