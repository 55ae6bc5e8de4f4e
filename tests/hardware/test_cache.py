"""The cache folder: whole files or none."""

from __future__ import annotations

from pathlib import Path

import pytest

from remora.hardware.cache import cache_folder, cache_key, read_json, write_json
from tests.report.full_disk import largest_file


def test_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("REMORA_CACHE_DIR", str(tmp_path / "here"))
    assert cache_folder() == tmp_path / "here"
    monkeypatch.delenv("REMORA_CACHE_DIR")
    assert cache_folder().name == "remora"


def test_write_and_read(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "entry.json"
    assert read_json(path) is None
    write_json(path, {"a": [1, None]})
    assert read_json(path) == {"a": [1, None]}
    assert [p.name for p in path.parent.iterdir()] == ["entry.json"]


def test_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "entry.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert read_json(path) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["entry.json"]


def test_keys_tell_parts_apart() -> None:
    assert cache_key("a", "b") == cache_key("a", "b")
    assert cache_key("a", "b") != cache_key("ab", "")


def test_a_full_disk_is_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "entry.json"
    write_json(path, {"a": 1})
    with largest_file(1000), pytest.warns(RuntimeWarning, match=r"cannot be written \(File too"):
        write_json(path, {"a": "long" * 1000})
    assert read_json(path) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["entry.json"]
