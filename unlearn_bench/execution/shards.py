"""Originals that are trained in shards and slices, a checkpoint of every stage in the store.

A training that was killed goes on at the last stage that was finished, and a request finds there
what each affected shard was before the first slice that held one of its examples.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from torch import Tensor

from unlearn_bench.execution.identity import Identities
from unlearn_bench.execution.task import Step, Task
from unlearn_bench.measure.clock import Clock
from unlearn_bench.store.layout import SHARD, STAGES
from unlearn_bench.store.store import Artifact, Built, Store
from unlearn_bench.suite.sharding import Sharding
from unlearn_bench.suite.spec import RunSpec
from unlearn_bench.toolkit.checkpoints import Checkpoints, Restart
from unlearn_bench.training.ensemble import Ensemble
from unlearn_bench.training.sharded import check_division, division, first_hits, train_stage

CHECKPOINT = "checkpoint"  # the kind of artifact


class Shards:
    """Trains the members of sharded originals stage by stage, each once.

    Args:
        store: Where checkpoints are kept.
        identities: What determines the original.
    """

    def __init__(self, store: Store, identities: Identities) -> None:
        self._store, self._identities = store, identities

    def original(
        self, spec: RunSpec, task: Task, step: Step
    ) -> tuple[dict[str, Tensor], dict[str, float | None]]:
        """Return the state of the trained ensemble, and the seconds that all stages took.

        Args:
            spec: The run.
            task: Its dataset, model, scenario and seed.
            step: Notified of each epoch.

        Raises:
            ParameterError: If there are more shards and slices than the data allow.
        """
        training = _Training(self._store, self._identities.original(spec), task, step)
        ensemble = training.fresh()
        seconds: dict[str, float | None] = {}
        for shard, member in enumerate(ensemble.members):
            for stages in range(1, training.sharding.slices + 1):
                made = training.after(shard, stages)
                for name, spent in made.notes["seconds"].items():
                    seconds[name] = None if spent is None else (seconds.get(name) or 0.0) + spent
            member.load_state_dict(made.tensors)
        return ensemble.state_dict(), seconds

    def checkpoints(self, spec: RunSpec, task: Task, step: Step) -> Checkpoints:
        """Return where each shard that holds an example of F is to be restarted.

        Args:
            spec: The run.
            task: Its dataset, model, scenario and seed.
            step: Notified of each epoch of stages that are no longer in the store.
        """
        training = _Training(self._store, self._identities.original(spec), task, step)
        hits = first_hits(training.sharding, training.cells, task.indices.forget)
        restarts = (
            Restart(shard, slice_, _on(task, training.before(shard, slice_)))
            for shard, slice_ in hits.items()
        )
        return Checkpoints(tuple(restarts), task.original_seed)


class _Training:
    """One original's training, stage by stage.

    Attributes:
        sharding: Of the original.
        cells: Shard and slice of every training example.
    """

    def __init__(self, store: Store, identity: Mapping[str, Any], task: Task, step: Step) -> None:
        assert task.model.sharding is not None
        self.sharding: Sharding = task.model.sharding
        self._store, self._identity = store, identity
        self._task, self._step = task, step
        self.cells = division(self.sharding, task.original_seed, len(task.data.train.labels))
        check_division(self.sharding, self.cells, task.indices.train)

    def fresh(self) -> Ensemble:
        """Return the ensemble before its training, on the device."""
        ensemble = self._task.new_original()
        assert isinstance(ensemble, Ensemble)
        return ensemble

    def before(self, shard: int, stage: int) -> Mapping[str, Tensor]:
        """Return the state of a member before a stage."""
        if stage:
            return self.after(shard, stage).tensors
        return self.fresh().members[shard].state_dict()

    def after(self, shard: int, stages: int) -> Artifact:
        """Return the checkpoint of a member after so many stages, at least one."""
        identity = {**self._identity, SHARD: shard, STAGES: stages}
        return self._store.get_or_build(CHECKPOINT, identity, lambda: self._trained(shard, stages))

    def _trained(self, shard: int, stages: int) -> Built:
        member, task = self.fresh().members[shard], self._task
        member.load_state_dict(self.before(shard, stages - 1))
        clock = Clock(task.device)
        with clock.phase("stage"):
            train_stage(
                member,
                task.everyone(),
                task.training_recipe(),
                sharding=self.sharding,
                cells=self.cells,
                shard=shard,
                stage=stages - 1,
                seed=task.original_seed,
                step=self._step,
            )
        return member.state_dict(), {"seconds": asdict(clock.phases["stage"])}


def _on(task: Task, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.to(task.device) for name, tensor in state.items()}
