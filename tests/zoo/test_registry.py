"""Names, targets and what is said about wrong ones."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from remora.zoo import Example, build, build_target

SIZES: dict[str, Any] = {
    "base_width": 8,
    "levels": 2,
    "channels": 3,
    "classes": 4,
    "resolution": 8,
    "batch": 2,
    "dtype": "float32",
}


@pytest.fixture
def user_module() -> Iterator[ModuleType]:
    module = ModuleType("module_of_a_user")
    sys.modules[module.__name__] = module
    yield module
    del sys.modules[module.__name__]


def test_a_pair_and_a_triple_become_an_example(user_module: ModuleType) -> None:
    pair = (nn.Linear(2, 2), (torch.zeros(1, 2),))
    user_module.pair = lambda: pair  # type: ignore[attr-defined]
    user_module.triple = lambda scale: (*pair, lambda output: output.sum() * scale)  # type: ignore[attr-defined]
    built = build_target("module_of_a_user:pair")
    assert isinstance(built, Example)
    assert built == (*pair, None)
    triple = build_target("module_of_a_user:triple", {"scale": 2.0})
    assert triple.loss is not None
    assert float(triple.loss(torch.ones(3))) == 6.0


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (nn.Linear(1, 1), "must return .* not Linear"),
        ((1, 2, 3, 4), "must return .* not tuple"),
        (("gpt2", ()), "the model is of type str, not torch.nn.Module"),
        ((nn.Linear(1, 1), torch.zeros(1)), "example_inputs is of type Tensor"),
        ((nn.Linear(1, 1), (), 3), "loss is neither None nor a function"),
    ],
)
def test_wrong_results_are_named(user_module: ModuleType, result: object, message: str) -> None:
    user_module.wrong = lambda: result  # type: ignore[attr-defined]
    with pytest.raises(TypeError, match=message):
        build_target("module_of_a_user:wrong")


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("", "not of the form package.module:function"),
        ("remora.zoo.gpt2", "not of the form package.module:function"),
        ("remora.zoo.gpt7:gpt7", "there is no module 'remora.zoo.gpt7'"),
        ("no_such_package.models:build", "there is no module 'no_such_package'"),
        ("remora.zoo.example:gpt2", "remora.zoo.example has no function 'gpt2'"),
        ("remora.zoo.registry:__all__", "has no function '__all__'"),
    ],
)
def test_wrong_targets_are_named(target: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_target(target)


def test_unknown_architecture_and_values_name_the_closest() -> None:
    with pytest.raises(ValueError, match="unknown architecture 'lama': did you mean 'llama'"):
        build("lama")
    with pytest.raises(ValueError, match="takes no value 'resolutions': did you mean 'resolution'"):
        build("unet", **SIZES, resolutions=8)
    with pytest.raises(ValueError, match="needs values for levels, channels"):
        build("unet", **{k: v for k, v in SIZES.items() if k not in ("levels", "channels")})


@pytest.mark.parametrize(
    ("architecture", "values", "message"),
    [
        ("unet", SIZES | {"dtype": "int8"}, "dtype is 'int8'; allowed are float64, float32"),
        ("unet", SIZES | {"levels": 1}, "levels is 1; a U-Net has at least 2"),
        ("unet", SIZES | {"resolution": 9}, "9 x 9; with 2 levels both sides must be multiples"),
    ],
)
def test_wrong_values_are_named(architecture: str, values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(architecture, **values)


def test_importing_the_zoo_imports_no_model_library() -> None:
    code = "import sys, remora.zoo; print(sorted({'torch', 'transformers'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
