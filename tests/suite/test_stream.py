"""Streams: how requests that come one after the other are written, and what runs for them."""

from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError

from unlearn_bench.plugins import registry
from unlearn_bench.suite.choices import Choices
from unlearn_bench.suite.config import Overrides, expand, resolve_suite
from unlearn_bench.suite.forget import Forget
from unlearn_bench.suite.spec import Scenario
from unlearn_bench.suite.stream import requests_of, reversed_of, union_of

TEXT = "stream:class:1;class:4;random:0.02"


def test_a_stream_is_read_from_text_and_from_yaml_alike() -> None:
    listed = ["class:1", {"classes": [4]}, "random:0.02"]
    forms: list[Any] = [TEXT, {"stream": listed}, {"forget": TEXT}, {"forget": {"stream": listed}}]
    read = {Scenario.model_validate(form).forget for form in forms}
    assert len(read) == 1
    (forget,) = read
    assert forget.name == TEXT
    assert [request.name for request in forget.requests] == ["class:1", "class:4", "random:0.02"]
    assert Forget.model_validate(forget.model_dump(mode="json")) == forget


@pytest.mark.parametrize("form", ["stream:random:0.01x5", {"stream": ["random:0.01x5"]}])
def test_a_share_can_be_asked_for_several_times(form: Any) -> None:
    forget = Forget.model_validate(form)
    assert [request.name for request in forget.stream] == ["random:0.01"] * 5
    assert forget.name == "stream:random:0.01x5"
    assert requests_of(forget.name) == ["random:0.01"] * 5


def test_the_first_requests_of_a_stream_are_what_they_are_when_written_alone() -> None:
    whole = Forget.model_validate("stream:class:1;random:0.02;random:0.02;class:4")
    for number, text in enumerate(("class:1", "stream:class:1;random:0.02"), 1):
        alone = Forget.model_validate(text)
        assert whole.until(number) == alone and hash(whole.until(number)) == hash(alone)
        assert whole.until(number).model_dump() == alone.model_dump()


def test_the_parts_of_a_long_stream_are_not_checked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    forget = Forget.model_validate("stream:random:0.001x300")
    checked: list[int] = []
    monkeypatch.setattr(Forget, "_ways", property(lambda self: checked.append(1) or ["fraction"]))
    for number in range(2, 300):
        forget.until(number)
    assert not checked


def test_an_x_in_the_name_of_a_class_repeats_nothing() -> None:
    forget = Forget.model_validate("stream:class:boxx5;class:x2;random:0.1")
    assert [request.classes for request in forget.stream[:2]] == [("boxx5",), ("x2",)]
    assert requests_of(forget.name) == ["class:boxx5", "class:x2", "random:0.1"]


@pytest.mark.parametrize(
    ("form", "reason"),
    [
        ("stream:", "does not say what to forget"),
        ("stream:class:1", "is a single request: write class:1"),
        ("stream:class:1;clas:2", "does not say what to forget"),
        ("stream:class:1;thirds:0.1", "thirds:0.1 cannot be one request of several"),
        ("stream:class:1;poisoned:0:0.1", "poisoned:0:0.1 cannot be one request of several"),
        ("stream:memorised:high:0.1;class:1", "memorised:high:0.1 cannot be one request of"),
        ({"stream": ["class:1", "stream:class:2;class:3"]}, "cannot be one request of several"),
        ("stream:random:0.01x0", "a stream has 2 to 1,000 requests"),
        ("stream:random:0.0001x1001", "a stream has 2 to 1,000 requests"),
        ({"stream": ["class:1", "class:2"], "classes": [1]}, "in exactly one way"),
    ],
)
def test_what_is_no_stream_is_refused_with_the_reason(form: Any, reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        Forget.model_validate(form)


def test_the_companions_of_a_stream_have_names_that_follow_from_its_own() -> None:
    assert union_of(TEXT) == "union:class:1;class:4;random:0.02"
    assert reversed_of(TEXT) == "stream:random:0.02;class:4;class:1"
    assert Forget.model_validate(union_of(TEXT)).name == union_of(TEXT)
    assert reversed_of("stream:random:0.01x5") == "stream:random:0.01x5"
    assert requests_of("class:1") == requests_of(union_of(TEXT)) == []


def planned(*forget: str, **flags: Any) -> Any:
    suite = resolve_suite("digits", Overrides(forget=forget, seeds=1, references=2, **flags))
    return expand(suite, device="cpu", tuned_elsewhere=True)


def test_every_method_meets_every_request_also_at_once_and_in_the_reverse_order() -> None:
    plan = planned(TEXT, methods="finetune")
    runs = [(r.scenario, r.request) for r in plan.runs if r.method == "finetune"]
    other = reversed_of(TEXT)
    assert runs == [
        *((TEXT, k) for k in (1, 2, 3)),
        (union_of(TEXT), 0),
        *((other, k) for k in (1, 2, 3)),
    ]
    assert any("also run as one request and in the reverse order" in n for n in plan.notes)
    first = [r.method for r in plan.runs if (r.scenario, r.request) == (TEXT, 1)]
    assert first == [r.method for r in plan.runs[: len(first)]] and first[0] == "retrain"


def test_a_stream_that_is_its_own_reverse_has_no_other_order() -> None:
    runs = planned("stream:random:0.01x3", methods="finetune").runs
    assert {run.scenario for run in runs} == {"stream:random:0.01x3", "union:random:0.01x3"}


def test_a_companion_that_is_asked_for_runs_once() -> None:
    once = planned(TEXT, methods="finetune").runs
    both = planned(TEXT, reversed_of(TEXT), union_of(TEXT), methods="finetune").runs
    assert len(both) == len(once)


def test_methods_that_a_request_is_not_made_for_are_left_out_with_the_reason() -> None:
    plan = planned(TEXT, methods="finetune,unsir,amnesiac")
    forward = {run.method for run in plan.runs if run.scenario == TEXT}
    assert not {"unsir", "amnesiac", "logit_mask"} & forward and "finetune" in forward
    notes = " ".join(plan.notes)
    assert f"unsir was left out of {TEXT}: it is made for" in notes
    assert f"amnesiac was left out of {TEXT}: it reads the log" in notes
    classes = planned("stream:class:1;class:4", methods="unsir").runs
    assert {"unsir", "logit_mask"} <= {run.method for run in classes if run.request}


def test_a_model_depends_on_the_requests_so_far_and_a_result_on_where_it_stands() -> None:
    def identity(text: str, request: int) -> Any:
        runs = planned(text, methods="finetune").runs
        wanted = (text, request, "finetune")
        return next(r for r in runs if (r.scenario, r.request, r.method) == wanted)

    one, two = identity("stream:class:1;class:4", 1), identity("stream:class:1;class:5", 1)
    plain = planned("class:1", methods="finetune").runs
    assert (
        one.identity()
        == two.identity()
        == next(run.identity() for run in plain if run.method == "finetune")
    )
    assert one.evaluation_identity() != two.evaluation_identity()
    later = identity("stream:class:1;class:4", 2)
    swapped = identity("stream:class:4;class:1", 2)
    assert later.identity() != swapped.identity()
    assert later.training_identity() == swapped.training_identity() == one.training_identity()


def test_named_examples_of_any_request_are_never_held_out() -> None:
    runs = planned("stream:class:1;indices:3,5;indices:4", methods="finetune").runs
    assert {tuple(run.training_identity()["named"]) for run in runs} == {(3, 4, 5)}


def test_a_stream_runs_with_settings_that_were_tuned_for_one_of_its_requests() -> None:
    code = registry.get("finetune").code_key
    found = SimpleNamespace(params={"lr": 0.5}, code=code, surrogate_data=None)
    settings = SimpleNamespace(methods={"finetune": found})

    class TunedForClass4:
        settings = ()

        def setting(self, spec: Any) -> Any:
            return settings if spec.forget.name == "class:4" else None

    tuned: Any = TunedForClass4()
    for run in planned(TEXT, methods="finetune").runs:
        if run.method == "finetune":
            assert Choices(tuned=tuned).params_for(run) == {"lr": 0.5}


def test_results_of_streams_of_parts_and_groups_say_how_these_are_divided() -> None:
    for text in ("stream:class:1;class:4", "stream:random:0.01x5", "subclass:8", "class:1@0.5"):
        assert not Forget.model_validate(text).division_identity(), text
    for text in (
        "stream:subclass:8;class:1",
        "union:class:1;group:a=b",
        "stream:class:1@0.5;class:1",
    ):
        assert Forget.model_validate(text).division_identity(), text
    # The first request is that of any scenario of its name.
    text = "stream:subclass:8;class:1"
    runs = planned(text, methods="finetune").runs
    first, second = (r for r in runs if r.method == "retrain" and r.forget.name == text)
    assert "division" not in first.identity() and "division" in second.identity()


def test_a_part_beside_its_whole_class_leaves_a_union_one_of_classes() -> None:
    assert Forget.model_validate("union:class:8@0.5;class:8;class:1").scopes == {"classes"}
    assert Forget.model_validate("union:class:8@0.5;class:1").scopes == {"random"}
    assert Forget.model_validate("union:class:8;random:0.1").scopes == {"random"}
