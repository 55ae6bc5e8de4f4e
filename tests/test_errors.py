import pickle

import pytest

from remora import errors

EXIT_CODES = {
    "RemoraError": 1,
    "UsageError": 2,
    "InvalidInputError": 2,
    "FileFormatError": 2,
    "MissingExtraError": 2,
    "UnknownNameError": 2,
    "InfeasibleError": 3,
    "VerificationError": 4,
    "ModelRunError": 5,
    "TraceError": 5,
    "TimeLimitError": 6,
    "Interrupted": 130,
}

EXAMPLES = [
    errors.InvalidInputError("batch is 0, allowed: 1 or more"),
    errors.MissingExtraError("highspy", "solvers", "scheduler milp"),
    errors.UnknownNameError("model", "gpt_2", ["gpt2", "bert_base"]),
    errors.InfeasibleError("nothing fits 1 GiB", 2 * 2**30, {"parameters": 2**30}),
    errors.TraceError("transformer.h.0", "aten.nonzero.default", "its shape depends on data"),
]


def test_every_exception_has_its_exit_code() -> None:
    classes = [getattr(errors, name) for name in errors.__all__ if name[0].isupper()]
    assert {cls.__name__: cls.exit_code for cls in classes} == EXIT_CODES


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_errors_cross_process_borders(error: errors.RemoraError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)


def test_unknown_name_offers_the_closest_names_whatever_their_case() -> None:
    error = errors.UnknownNameError("hardware", "H100", ["h100_sxm", "a100_40g"])
    assert str(error) == "unknown hardware 'H100': did you mean 'h100_sxm'?"


def test_unknown_name_lists_all_names_when_none_is_close() -> None:
    error = errors.UnknownNameError("hardware", "zzz", ["h100_sxm", "a100_40g"])
    assert str(error) == "unknown hardware 'zzz': allowed: a100_40g, h100_sxm"


def test_closest_names_keeps_the_best_first_and_the_limit() -> None:
    names = ["resnet50", "resnet101", "resnet_tiny", "gpt2"]
    assert errors.closest_names("resnet5", names, limit=2) == ["resnet50", "resnet101"]


def test_infeasible_carries_the_smallest_budget_and_its_breakdown() -> None:
    error = errors.InfeasibleError("nothing fits", 10, {"parameters": 6, "gradients": 4})
    assert error.smallest_budget_bytes == 10
    assert error.breakdown == {"parameters": 6, "gradients": 4}


def test_invalid_input_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="batch is 0"):
        raise errors.InvalidInputError("batch is 0, allowed: 1 or more")


def test_trace_error_names_module_and_op() -> None:
    message = str(errors.TraceError("", "aten.nonzero.default", "its shape depends on data"))
    assert message == (
        "cannot trace the root module at op aten.nonzero.default: its shape depends on data"
    )
