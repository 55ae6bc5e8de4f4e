from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from remora.api.compiling import announce_compiling


def test_a_wait_for_the_compiler_is_announced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    kernel = SimpleNamespace(stats=SimpleNamespace(cache_path=str(tmp_path)))
    monkeypatch.setattr("remora.simulator.compiled.batch_kernel.simulate_batch", kernel)
    announce_compiling()
    assert "the simulator is compiled now, once" in caplog.text
    caplog.clear()
    (tmp_path / "batch_kernel.simulate_batch-87.py311.nbi").touch()
    announce_compiling()
    assert not caplog.text


def test_nothing_is_said_where_the_kernels_are_there(caplog: pytest.LogCaptureFixture) -> None:
    from remora.simulator.compiled.warm_up import compile_kernels

    compile_kernels()
    announce_compiling()
    assert not caplog.text
