"""Methods that cheat are refused, fail alone, and the line names what they touched."""

import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from unlearn_bench.core.errors import MethodError
from unlearn_bench.core.fence import Fence, crossing
from unlearn_bench.execution.failures import Failures, RunFailedError
from unlearn_bench.execution.isolation import landlock
from unlearn_bench.execution.run import Runner
from unlearn_bench.execution.surroundings import leftovers
from unlearn_bench.plugins import registry
from unlearn_bench.store.store import Artifact, Store
from unlearn_bench.suite.config import expand
from unlearn_bench.suite.spec import RunSpec, Suite

CHEATING = Path(__file__).with_name("cheating.py")

# What the line of a failed run says of each cheat, without --isolate.
REFUSED = {
    "python_open": "opened STORE/artifacts/original/KEY/tensors.safetensors (the store of models)",
    "numpy_open": "opened STORE/artifacts/original/KEY/tensors.safetensors (the store of models)",
    "torch_load": "opened STORE/store.json (the store of models)",
    "listing": "listed STORE (the store of models)",
    "swallowed": "opened STORE/artifacts/original/KEY/tensors.safetensors (the store of models)",
    "in_a_thread": "opened STORE/artifacts/original/KEY/tensors.safetensors (the store of models)",
    "by_a_link": "(the store of models)",
    "by_a_folder_above": "(the folder of closed places)",
    "moving_it": "renamed STORE (the store of models)",
    "native_open": "called native code (ctypes.dlopen)",
    "scikit_learn": "(data that models are made from)",
    "data_folder": "opened DATA/images.bin (data that models are made from)",
    "environment": "KeyError: 'UNLEARN_BENCH_HOME'",
    "environment_of_the_process": "environ (what the system says of a process)",
    "frames": "walked the stack (sys._getframe)",
    "frames_of_an_error": "walked the stack (tb_frame)",
    "frames_in_a_librarys_name": "walked the stack (sys._getframe)",
    "frames_by_a_helpers_name": "walked the stack (sys._getframe)",
    "memory": "searched the memory of the process (gc.get_objects)",
    "private_images": "an image was read that is in none of the splits that the method declares",
    "private_labels": "LookupError: no labels but of the forget set",
    "other_splits": "LookupError: no retained examples",
    "patched_metrics": "patched functions: unlearn_bench.measure.evaluate.logits",
    "patched_torch": "patched functions: torch.nn.functional.cross_entropy",
    "patched_in_disguise": "patched functions: torch.nn.functional.cross_entropy",
    "patched_reader": "patched functions: torch.serialization.load, safetensors.torch.load_file",
    "patched_algebra": "patched functions: numpy.linalg.norm",
    "changed_default": "patched functions: unlearn_bench.measure.evaluate.logits",
    "changed_keyword_default": "patched functions: unlearn_bench.measure.probes.relearn.relearn",
    "constant_of_a_probe": "constants: unlearn_bench.measure.probes.relearn.WITHIN",
    "constant_of_the_verdict": "constants: unlearn_bench.analysis.nearness.NEARNESS_LIMIT",
    "entry_of_a_table": "constants: unlearn_bench.measure.metrics.ENTRIES",
    "global_hook": "hooks on every module or optimiser: global forward hooks",
    "default_dtype": "default dtype: torch.float32 became torch.float64",
    "thread_left": "threads still running: waiting",
    "module_state": "variables of its module: KEPT",
    "other_reference": "registered methods: retrain",
    "fence_off": "switched off what watches it",
    "cat": "started a process (cat)",
    "shell": "started a process (cp ",
    "fork": "started a process (os.fork)",
    "writes_results": "opened RESULTS/runs/made-up.json (the results folder)",
}
# What native code does, and who switches the hook off and on again or runs code as a library's own,
# no hook sees: SECURITY.md says so. In a process of its own the system refuses it.
ISOLATED_ONLY = {
    "rust_open": ("got 21 tensors of a stored model", "FileNotFoundError: "),
    "unhooked_store": ("bytes of a stored model", "PermissionError: "),
    "crossed": ("bytes of a stored model", "PermissionError: "),
    "frames_within_a_library": ("got the harness's variables", "LookupError: no frame of the"),
    "unhooked_digits": ("got 1797 digits", "PermissionError: "),
    "unhooked_results": ("got a result written", "PermissionError: "),
    "unhooked_process": ("got b", "CalledProcessError: "),
    "unhooked_native": ("got b", "OSError: not opened"),
    "unhooked_parent": ("bytes of the parent", "PermissionError: "),
    "unhooked_memory": ("got the test part", "LookupError: no dataset with a test part"),
    "unhooked_frames": ("got the harness's variables", "LookupError: no frame of the harness's"),
    "network": ("got a connection", "Permission denied"),
}
# Enough of those that are refused anyway: the same code refuses them.
ISOLATED_TOO = ("swallowed", "environment", "patched_torch", "constant_of_a_probe")


@dataclass(frozen=True)
class World:
    """A store with an original, a results folder, data, and the cheats who know where they lie."""

    runner: Runner
    places: dict[str, Path]
    original: Artifact
    spec: RunSpec

    def unlearn(self, name: str, **changes: Any) -> Any:
        """Call a method as a run does, and return its weights and notes."""
        spec = self.spec.model_copy(update={"method": name, "label": name} | changes)
        models, task = self.runner.models, self.runner.task(spec)
        call = lambda: models.unlearn(spec, task, self.original, lambda _: None)  # noqa: E731
        return Failures(torch.device("cpu")).guard(call)

    def reason(self, name: str, **changes: Any) -> str:
        """Return why a method's run fails, places by name."""
        with pytest.raises(RunFailedError) as failed:
            self.unlearn(name, **changes)
        text = str(failed.value).replace(self.original.key, "KEY")
        for place, path in self.places.items():
            text = text.replace(str(path), place)
        return text


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("world")
    places = {name: folder / name.lower() for name in ("STORE", "RESULTS", "DATA")}
    (places["RESULTS"] / "runs").mkdir(parents=True)
    places["DATA"].mkdir()
    (places["DATA"] / "images.bin").write_text("images")
    suite = {
        "name": "s",
        "datasets": "digits",
        "models": "resnet4",
        "scenarios": "class:8",
        "threads": 1,
        "recipe": {"epochs": 1, "lr": 4e-3},
    }
    spec = expand(Suite.model_validate(suite | {"methods": "original"}), device="cpu").runs[0]
    runner = Runner(
        Store(places["STORE"]),
        torch.device("cpu"),
        data_root=places["DATA"],
        results=places["RESULTS"],
    )
    original = runner.original(spec, lambda _: None)
    text = CHEATING.read_text()
    model = places["STORE"] / "artifacts" / "original" / original.key / "tensors.safetensors"
    listening = socket.create_server(("127.0.0.1", 0))
    values = {**places, "MODEL": model, "PORT": listening.getsockname()[1]}
    for name, value in values.items():
        text = text.replace(f"@{name}@", str(value))
    (folder / "cheating.py").write_text(text)
    before = dict(registry.REGISTERED)
    registry.load_plugin(folder / "cheating.py")
    yield World(runner, places, original, spec)
    registry.REGISTERED.clear()
    registry.REGISTERED.update(before)
    listening.close()


@pytest.fixture(autouse=True)
def told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNLEARN_BENCH_HOME", str(world.places["STORE"]))
    monkeypatch.setattr(leftovers, "PATIENCE", 0.1)


@pytest.mark.parametrize("name", REFUSED)
def test_a_cheat_is_refused_and_the_line_says_what_it_touched(name: str, world: World) -> None:
    reason = world.reason(name)
    assert REFUSED[name] in reason and "\n" not in reason
    if REFUSED[name].startswith(("opened", "listed", "started", "walked", "called", "searched")):
        assert reason.startswith(f"method {name!r} {REFUSED[name].split()[0]} ")
        assert reason.endswith("may use only its model and what ctx provides")


@pytest.mark.parametrize("name", ISOLATED_ONLY)
def test_what_gets_through_without_isolation_is_known(name: str, world: World) -> None:
    assert ISOLATED_ONLY[name][0] in world.reason(name)


@pytest.mark.skipif(not landlock.abi(), reason="this system has no Landlock")
@pytest.mark.parametrize("name", [*ISOLATED_ONLY, *ISOLATED_TOO])
def test_an_isolated_cheat_gets_nothing(name: str, world: World) -> None:
    reason = world.reason(name, isolate=True)
    assert "got" not in reason.split() and "\n" not in reason
    assert (ISOLATED_ONLY[name][1] if name in ISOLATED_ONLY else REFUSED[name]) in reason


def test_after_all_cheats_honest_methods_do_as_ever(world: World) -> None:
    weights, _ = world.unlearn(
        "finetune", params={**registry.get("finetune").resolve({}), "epochs": 1}
    )
    assert os.environ["UNLEARN_BENCH_HOME"] == str(world.places["STORE"])
    again, _ = world.unlearn(
        "finetune", params={**registry.get("finetune").resolve({}), "epochs": 1}
    )
    assert all(torch.equal(weights[name], again[name]) for name in weights)


def test_every_cheat_is_accounted_for(world: World) -> None:
    added = {name for name, known in registry.REGISTERED.items() if known.file.stem == "cheating"}
    assert added == {*REFUSED, *ISOLATED_ONLY} and len(added) >= 16


@pytest.fixture
def fence(tmp_path: Path) -> Fence:
    (tmp_path / "closed" / "open").mkdir(parents=True)
    return Fence({tmp_path / "closed": "secrets"})


def test_only_the_call_is_fenced_and_the_harness_crosses(fence: Fence, tmp_path: Path) -> None:
    file = tmp_path / "closed" / "note"
    with fence.around("mine", Path(__file__)):
        (tmp_path / "beside").write_text("mine")
        with crossing():
            file.write_text("of the harness")
    assert file.read_text() == "of the harness"
    with pytest.raises(MethodError, match=r"'mine' opened .*note \(secrets\) during its call; "):
        with fence.around("mine", Path(__file__)):
            file.read_text()


def test_threads_of_the_harness_are_left_alone(fence: Fence, tmp_path: Path) -> None:
    begin, done = threading.Event(), threading.Event()

    def write() -> None:
        begin.wait(10)
        (tmp_path / "closed" / "progress").write_text("on the way")
        done.set()

    thread = threading.Thread(target=write)
    thread.start()
    with fence.around("mine", Path(__file__)):
        begin.set()
        assert done.wait(10)
    thread.join()


def test_an_error_after_a_refusal_does_not_hide_it(fence: Fence, tmp_path: Path) -> None:
    def quiet() -> None:
        try:
            list((tmp_path / "closed").iterdir())
        except Exception:
            raise ValueError("something else") from None

    with pytest.raises(MethodError, match="listed"), fence.around("mine", Path(__file__)):
        quiet()
    with pytest.raises(KeyboardInterrupt), fence.around("mine", Path(__file__)):
        raise KeyboardInterrupt
