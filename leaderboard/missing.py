"""What a claim without a verdict lacks, and who could say it or do it."""

from collections import Counter
from collections.abc import Iterable

from .sensitivity import OPEN
from .verdicts import Verdict

# Beginning of a reason -> (what is missing, who could say it); the first that fits.
LACKS = (
    ("The source does not say on how many", "the number of samples", "the authors of the source"),
    ("The source does not say", "settings of the protocol", "the authors of the source"),
    ("Only accuracies", "a measure of this kind", "this project"),
    ("Retrieval is no cell", "a comparison with outcomes of retrieval", "this project"),
    ("A mean is checked", "nothing: its cells and the audit check it", "nobody needs to"),
    ("It was trained again here", "how much trainings differ", "whoever trains it several times"),
    ("How much trainings differ cannot be read", "a readable sheet of trainings", "this project"),
    ("No weights are known", "weights of that backbone", "the authors of the source"),
    ("It cannot run here", "a part that is not built", "this project"),
    ("No outcome", "a run", "whoever has the weights, the data and a GPU"),
)
A_READING = ("a run of each way to read its protocol", "whoever has the weights, the data and a GPU")
NOT_HERE = ("the method", "this project, or whoever adds it")
OTHER = ("see the reason", "this project")


def lacks(verdict: Verdict) -> tuple[str, str] | None:
    """(what is missing, who could say it) of a claim that was not tested; None of one that was."""
    if verdict.word == OPEN:
        return A_READING
    if verdict.word not in ("not checkable", "not run"):
        return None
    for beginning, what, who in LACKS:
        if verdict.reason.startswith(beginning):
            return what, who
    return NOT_HERE if "is not implemented here" in verdict.reason or "cannot be used" in verdict.reason else OTHER


def lacking(judged: Iterable[Verdict]) -> list[tuple[str, str, int]]:
    """Of many: (what is missing, who could say it, how many claims), the most frequent first."""
    counts = Counter(found for verdict in judged if (found := lacks(verdict)))
    return sorted(((what, who, n) for (what, who), n in counts.items()), key=lambda line: (-line[2], line[0]))
