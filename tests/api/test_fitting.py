from __future__ import annotations

import pytest

import remora
from remora.api import batch_tracer
from remora.api.fitting import Fit
from remora.api.passes import pass_example
from remora.errors import InvalidInputError
from remora.graph.batch import with_batch
from remora.zoo import build_target
from tests.api.small_models import BATCH, make_stack
from tests.zoo.model_files import load


@pytest.fixture(scope="module")
def fit() -> Fit:
    model, inputs = make_stack()
    return remora.fits(model, inputs, "2MiB", hardware="rtx3090")


def test_peaks_and_their_breakdowns_agree(fit: Fit) -> None:
    assert sum(fit.keep_all_breakdown_bytes.values()) == fit.keep_all_peak_bytes
    assert sum(fit.least_breakdown_bytes.values()) == fit.least_peak_bytes
    assert fit.least_peak_bytes < fit.keep_all_peak_bytes
    assert fit.batch == BATCH


def test_the_largest_batches_are_largest(fit: Fit) -> None:
    alone, scheduled = fit.largest_batch_keep_all, fit.largest_batch
    assert alone is not None
    assert scheduled is not None
    assert alone < scheduled
    model, inputs = make_stack()
    for batch, expected in ((alone, True), (alone + 1, False)):
        sized = remora.fits(
            model,
            with_batch(inputs, batch),
            "2MiB",
            hardware="rtx3090",
            find_largest_batch=False,
        )
        assert sized.fits_unscheduled is expected
        assert sized.largest_batch is None


def test_what_cannot_fit_does_not() -> None:
    model, inputs = make_stack()
    fit = remora.fits(model, inputs, "1KiB", hardware="rtx3090")
    assert not fit.fits
    assert not fit.fits_unscheduled
    assert fit.largest_batch == 0


def test_in_inference_weights_and_caches_may_wait() -> None:
    values = load("model", "gpt2_tiny")
    one = pass_example(build_target(values["target"], values["values"]))

    def fit(**more: int) -> Fit:
        return remora.fits(
            one.model,
            one.example_inputs,
            "16MiB",
            hardware="rtx3090",
            mode="inference",
            **more,  # type: ignore[arg-type]
        )

    alone, long = fit(), fit(prompt_tokens=64, generated_tokens=192)
    assert alone.mode == "inference"
    assert "optimizer state" not in alone.keep_all_breakdown_bytes
    assert alone.least_peak_bytes < alone.keep_all_peak_bytes
    assert long.keep_all_peak_bytes > alone.keep_all_peak_bytes
    for one_fit in (alone, long):
        assert one_fit.largest_batch_keep_all is not None
        assert one_fit.largest_batch is not None
        assert one_fit.largest_batch_keep_all < one_fit.largest_batch
    assert long.largest_batch_keep_all < alone.largest_batch_keep_all  # type: ignore[operator]
    as_planned = remora.optimize(
        one.model,
        one.example_inputs,
        "16MiB",
        hardware="rtx3090",
        mode="inference",
        agent="keep_all",
    )
    assert as_planned.keep_all_timeline.max_peak_bytes == alone.keep_all_peak_bytes


def test_tokens_belong_to_inference() -> None:
    model, inputs = make_stack()
    with pytest.raises(InvalidInputError, match="generated_tokens is 5 with mode='train'"):
        remora.fits(model, inputs, "2MiB", hardware="rtx3090", generated_tokens=5)


def test_a_tiny_model_on_a_large_device_takes_few_traces(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    monkeypatch.setattr(
        batch_tracer,
        "with_batch",
        lambda inputs, size, *more: sizes.append(size) or with_batch(inputs, size, *more),
    )
    model, inputs = make_stack()
    fit = remora.fits(model, inputs, "4GiB", hardware="h200")
    assert fit.largest_batch == fit.most_batch
    assert {fit.largest_batch_keep_all, fit.largest_batch_keep_all + 1} <= set(sizes)  # type: ignore[operator]
    assert len(sizes) < 12
