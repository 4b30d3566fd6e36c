"""What a suite sets for methods, narrowed down to what flags leave in force."""

from collections.abc import Mapping
from typing import Any

from unlearn_bench.suite.spec import Suite
from unlearn_bench.suite.tuned import Tuned


def only_params_of(suite: Suite, names: set[str]) -> Suite:
    """Leave out what the suite sets for methods that ``--methods`` leaves out."""

    def kept(params: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        return {name: values for name, values in params.items() if name in names}

    scenarios = [
        scenario.model_copy(update={"params": kept(scenario.params)})
        for scenario in suite.scenarios
    ]
    return suite.model_copy(update={"params": kept(suite.params), "scenarios": tuple(scenarios)})


def without_params_of(suite: Suite, tuned: Tuned) -> Suite:
    """Leave out what a suite sets for methods that a file of tuned settings is given for."""
    names = {name for setting in tuned.settings for name in setting.methods}

    def kept(params: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        return {name: values for name, values in params.items() if name not in names}

    return suite.model_copy(
        update={
            "params": kept(suite.params),
            "scenarios": tuple(
                scenario.model_copy(update={"params": kept(scenario.params)})
                for scenario in suite.scenarios
            ),
            "methods": tuple(
                spec.model_copy(update={"params": {}})
                if spec.name in names and not spec.label
                else spec
                for spec in suite.methods
            ),
        }
    )
