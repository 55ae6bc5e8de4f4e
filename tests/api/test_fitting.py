from __future__ import annotations

import pytest

import remora
from remora.api.fitting import Fit
from tests.api.small_models import BATCH, make_stack


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
    from remora.graph.batch import with_batch

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
