"""Arguments of operators that are made up again."""

from __future__ import annotations

from typing import Any

from remora.executor.replay.operands import find_operator, without_dropout


def test_an_operator_that_reads_a_seed_runs_without_dropout() -> None:
    name = "aten._scaled_dot_product_efficient_attention_backward.default"
    function: Any = find_operator(name)
    position = [argument.name for argument in function._schema.arguments].index("dropout_p")
    args: list[Any] = [*range(position), 0.1, [True] * 4]
    without_dropout(function, args, {"scale": 0.5})
    assert args == [*range(position), 0.0, [True] * 4]
    kwargs = {"dropout_p": 0.1, "scale": 0.5}
    without_dropout(function, [*range(position)], kwargs)
    assert kwargs == {"dropout_p": 0.0, "scale": 0.5}


def test_dropout_without_a_seed_stays() -> None:
    args: list[Any] = [None, 0.1, True]
    without_dropout(find_operator("aten.native_dropout.default"), args, {})
    assert args == [None, 0.1, True]
    forward = find_operator("aten._scaled_dot_product_efficient_attention.default")
    args = [None, None, None, None, True, 0.1]
    without_dropout(forward, args, {})
    assert args[5] == 0.1
