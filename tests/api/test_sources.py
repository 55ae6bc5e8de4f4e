from __future__ import annotations

import pytest

from remora.api.configs import config_names, load_config
from remora.api.hardware import find_hardware, is_local
from remora.api.model_source import ModelSource, named_source, own_error_lines
from remora.api.saved_model import SavedModel, saved_model
from remora.errors import InvalidInputError, ModelRunError, UnknownNameError, UsageError

MODULE = "tests.api.small_models"


def test_models_are_named_after_their_files() -> None:
    for name in config_names("model"):
        assert load_config("model", name)["name"] == name


def test_values_replace_those_of_the_file() -> None:
    source = named_source("resnet_tiny", {"batch": 3})
    assert source.values["batch"] == 3
    example = source.build_for_tracing()
    assert all(parameter.is_meta for parameter in example.model.parameters())


def test_unknown_models_and_values_are_named() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'resnet_tiny'"):
        named_source("resnet_tyni")
    with pytest.raises(InvalidInputError, match=r"model resnet_tiny: .*'batch'"):
        named_source("resnet_tiny", {"batsh": 3}).build()


def test_a_function_of_the_users_own_is_called() -> None:
    example = ModelSource("custom", f"{MODULE}:make_stack", {"depth": 2}).build_for_tracing()
    assert len(example.model.blocks) == 2


@pytest.mark.parametrize("target", ["nothing", "no.such:thing", f"{MODULE}:nothing"])
def test_targets_that_name_nothing_are_refused(target: str) -> None:
    with pytest.raises(InvalidInputError, match=r"model\.target"):
        ModelSource("custom", target).build()


def test_their_own_error_comes_with_its_last_line() -> None:
    with pytest.raises(ModelRunError, match="KeyError: 'no such weights'") as caught:
        ModelSource("custom", f"{MODULE}:make_nothing").build()
    cause = caught.value.__cause__
    assert cause is not None
    lines = own_error_lines(cause)
    assert "small_models.py" in lines[0]
    assert lines[-1] == "KeyError: 'no such weights'"


def test_a_file_may_name_our_models_only() -> None:
    source = named_source("resnet_tiny", {"batch": 3})
    values = saved_model(source)
    assert values is not None
    assert SavedModel(**values).source() == source
    with pytest.raises(InvalidInputError, match="which a file cannot name"):
        SavedModel("custom", {"target": "os:system"}).source()
    with pytest.raises(UsageError):
        SavedModel("os:system", {}).source()
    assert saved_model(None) is None


def test_hardware_by_name_values_and_record() -> None:
    record = find_hardware("rtx4090")
    assert find_hardware(record) is record
    assert find_hardware(load_config("hardware", "rtx4090")) == record
    assert not is_local("rtx4090")
    assert not is_local(record)
    assert is_local("local")
    assert find_hardware("rtx4090", host_pool="none").host.pool == "none"


def test_bad_hardware_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"hardware\.host_pool is 'some', allowed: pinned"):
        find_hardware("rtx4090", host_pool="some")
    with pytest.raises(InvalidInputError, match="since hardware 'local' is measured"):
        find_hardware({"name": "local", "memory_bytes": 5})
