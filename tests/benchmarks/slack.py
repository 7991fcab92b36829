"""How much a stronger attack takes than the attacks of a tier, on the same samples and fresh scoring draws.

python tests/benchmarks/slack.py tecoa cola --backbone miniclip-vit --dataset fashion_mnist --eps 16/255 --limit 24 \
    --against pgd-20-adaptive apgd-t-20-white-box --by ensemble-adaptive
"""

import argparse
import json
import time
from collections.abc import Sequence

import torch

from vlm_gauntlet.attacks.protocols import protocol, varied
from vlm_gauntlet.fixtures.backbones import load_backbone
from vlm_gauntlet.fixtures.datasets import dataset
from vlm_gauntlet.fixtures.protocols import Protocol
from vlm_gauntlet.methods.registry import method
from vlm_gauntlet.suites.batch import Evaluation, run_batch


def measured(name: str, asked: Protocol, arguments: argparse.Namespace) -> dict[str, object]:
    """One method under one protocol: what stands of each sample (a share of the draws), and what it cost."""
    backbone, data = load_backbone(arguments.backbone, "cpu"), dataset(arguments.dataset)
    defence = method(name).build(backbone)
    conditions = asked.evaluation.model_copy(update={"scoring_draws": arguments.draws})
    asked = asked.model_copy(update={"evaluation": conditions})
    prompts, undefended = data.prompted(asked.evaluation.prompts), method("undefended").build(defence.backbone)
    evaluation = Evaluation(defence, undefended, prompts, asked, arguments.seed)
    sizes = {"limit": arguments.limit, "batch_size": arguments.batch_size, "size": backbone.image_size}
    began, results = time.process_time(), []
    for batch in data.batches(preprocessing=asked.evaluation.preprocessing, **sizes):
        results.append(run_batch(evaluation, batch))
    samples = [sample for result in results for sample in result.samples]
    passes = sum(r.attack_cost.forward + r.attack_cost.backward for r in results)
    series = [value for r in results for value in r.telemetry.get("converged", ())]
    return {
        "method": name, "protocol": asked.id, "n": len(samples), "draws": evaluation.draws,
        "stands": [min(s.attacked, s.clean) / evaluation.draws for s in samples],
        "clean": sum(s.clean for s in samples) / len(samples) / evaluation.draws,
        "passes": passes / len(samples), "seconds": round(time.process_time() - began, 1),
        "converged": sum(series) / len(series) if series else None,
        "rounds": [int(value) for r in results for value in r.telemetry.get("rounds", ())],
    }  # fmt: skip


def main(arguments: argparse.Namespace) -> None:
    """Prints one line a method and protocol, then the worst case of the tier, of the stronger attack, and the slack."""
    eps = "-linf-" + arguments.eps.replace("/", "-")
    changes = {key: json.loads(value) for key, value in (pair.split("=") for pair in arguments.set)}
    for name in arguments.methods:
        worst: dict[str, list[float]] = {}
        for side, protocols in (("against", arguments.against), ("by", arguments.by)):
            for family in protocols:
                asked = protocol(family + eps)
                found = measured(name, varied(asked, **changes) if side == "by" and changes else asked, arguments)
                stands: Sequence[float] = found.pop("stands")  # type: ignore[assignment]
                worst[side] = [min(pair) for pair in zip(worst.get(side, stands), stands, strict=True)]
                print(json.dumps({**found, "standing": round(sum(stands), 2)}), flush=True)
        if len(worst) == 2:
            left, taken = sum(worst["against"]), sum(worst["by"])
            print(
                f"{name}: tier {left:.2f}, stronger {taken:.2f}, slack {left - taken:.2f} of {len(worst['by'])} samples"
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="+")
    parser.add_argument("--backbone", default="miniclip-vit")
    parser.add_argument("--dataset", default="fashion_mnist")
    parser.add_argument("--eps", default="16/255")
    parser.add_argument("--limit", type=int, default=24)
    parser.add_argument("--batch-size", type=int, default=24)
    parser.add_argument("--draws", type=int, default=30, help="fresh draws that score a randomised defence")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--against", nargs="*", default=["pgd-20-adaptive", "apgd-t-20-white-box"])
    parser.add_argument("--by", nargs="*", default=["ensemble-adaptive"])
    parser.add_argument("--set", nargs="*", default=[], metavar="PARAMETER=JSON", help="of the stronger attack")
    torch.set_num_threads(1)
    main(parser.parse_args())
