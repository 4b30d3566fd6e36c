"""Try settings of one method on a suite and print what each does; the test part is never read.

    python benchmarks/choose_settings.py METHOD name=v1,v2 ... [--suite digits] [--seeds 3]

Every combination of the values runs under each seed, on top of what the suite sets for the method
(with ``--bare``, of its defaults). Printed are means over seeds in per cent, with the range:
accuracy on F, on R, on the validation examples of retained classes, and on F after BatchNorm's
statistics were estimated again on R. Originals are kept in the store and trained once.
"""

import argparse
import itertools
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from unlearn_bench.core.seeds import derive
from unlearn_bench.execution.failures import RunFailedError
from unlearn_bench.execution.run import Runner
from unlearn_bench.execution.task import silent
from unlearn_bench.measure import evaluate, probes
from unlearn_bench.measure.probes import batch_norm
from unlearn_bench.store.layout import default_home
from unlearn_bench.store.store import Store
from unlearn_bench.suite.config import Overrides, expand, parse_settings, resolve_suite
from unlearn_bench.suite.spec import RunSpec

COLUMNS = ("forget", "retain", "validation", "bn_recovery", "seconds")


class Chooser(Runner):
    """A runner that looks at the unlearned model on training and validation examples alone."""

    def figures(self, spec: RunSpec) -> dict[str, float]:
        """Run the method and return the figures named in ``COLUMNS``, accuracies in per cent.

        Raises:
            RunFailedError: If the method failed.
        """
        torch.set_num_threads(spec.threads or torch.get_num_threads())
        task = self.task(spec)
        data, indices = task.data, task.indices
        made = self.models.of(spec, task, silent).unlearned
        model = task.load(made.tensors)
        labels = data.train.labels

        def right(of: torch.nn.Module, chosen: Tensor) -> float:
            logits = evaluate.logits(of, data, data.train, self.device, chosen)
            return float((logits.argmax(1) == labels[chosen]).double().mean()) * 100

        gone = torch.tensor(indices.forget_classes, dtype=torch.long)
        validation = indices.validation[~torch.isin(labels[indices.validation], gone)]
        chosen = probes.choose(indices, labels, derive(spec.seed, "probes"))
        found = {
            "forget": right(model, indices.forget),
            "retain": right(model, indices.retain),
            "validation": right(model, validation),
            "seconds": made.notes["cost"]["seconds"]["unlearn"]["wall"],
        }
        if batch_norm.has_running_statistics(model):
            renewed = batch_norm.reestimated(model, data, chosen.estimated, self.device)
            found["bn_recovery"] = right(renewed, chosen.forget)
        return found


def combinations(settings: list[str]) -> Iterator[list[str]]:
    """Yield every combination of ``name=v1,v2`` as a list of ``name=value``."""
    named = [(name, values.split(",")) for name, _, values in (s.partition("=") for s in settings)]
    for values in itertools.product(*(values for _, values in named)):
        yield [f"{name}={value}" for (name, _), value in zip(named, values, strict=True)]


def runs(args: argparse.Namespace, setting: list[str]) -> list[RunSpec]:
    """Return the method's runs under one setting, one per seed."""
    suite = resolve_suite(args.suite, Overrides(methods=args.method, seeds=args.seeds))
    own = {} if args.bare else suite.params.get(args.method, {})
    tried = parse_settings([f"{args.method}.{text}" for text in setting]).get(args.method, {})
    suite = suite.model_copy(update={"params": {args.method: own | tried}})
    return [spec for spec in expand(suite, device="cpu").runs if spec.method == args.method]


def summary(values: list[float]) -> str:
    """Return the mean, and the range where there is one."""
    mean = sum(values) / len(values)
    spread = f" ({min(values):.1f}-{max(values):.1f})" if max(values) > min(values) else ""
    return f"{mean:.1f}{spread}"


def main() -> None:
    """Print one line per setting."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("method")
    parser.add_argument("settings", nargs="*", metavar="name=v1,v2")
    parser.add_argument("--suite", default="digits")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--bare", action="store_true", help="leave the suite's own settings out")
    parser.add_argument("--data-root", type=Path)
    args = parser.parse_intermixed_args()
    chooser = Chooser(Store(default_home()), torch.device("cpu"), data_root=args.data_root)
    print(f"{'setting':50}" + "".join(f" {name:>22}" for name in COLUMNS))
    for setting in combinations(args.settings):
        label = " ".join(setting) or "as the suite has it"
        try:
            found = [chooser.figures(spec) for spec in runs(args, setting)]
        except RunFailedError as failure:
            print(f"{label:50} failed: {failure}", flush=True)
            continue
        cells = [summary([f[name] for f in found]) if name in found[0] else "-" for name in COLUMNS]
        print(f"{label:50}" + "".join(f" {cell:>22}" for cell in cells), flush=True)


if __name__ == "__main__":
    main()
