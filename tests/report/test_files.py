from __future__ import annotations

import json
from pathlib import Path

import pytest

from remora.errors import FileFormatError, UsageError
from remora.report.files import read_json, read_text, write_bytes, write_json, write_text
from tests.report.full_disk import largest_file


def test_written_files_are_read_back(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "a.json"
    write_json(path, {"version": 1, "text": "é"})
    assert read_json(path, "thing", 1) == {"version": 1, "text": "é"}
    assert [file.name for file in path.parent.iterdir()] == ["a.json"]


def test_an_interruption_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def interrupt(self: Path, target: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_bytes(path, b"new")
    monkeypatch.undo()
    assert read_text(path, "text") == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_leaves_the_old_file_and_is_told_in_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with largest_file(1000), pytest.raises(UsageError, match=r"a.txt cannot be written: File too"):
        write_text(path, "new" * 1000)
    assert read_text(path, "text") == "old"
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(UsageError, match="cannot be written: File exists"):
        write_text(path / "b.txt", "new")


def test_files_are_as_readable_as_others(tmp_path: Path) -> None:
    plain, ours = tmp_path / "plain", tmp_path / "ours"
    plain.write_text("")
    write_text(ours, "")
    assert plain.stat().st_mode == ours.stat().st_mode


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"version": 1, "a": ', "cut short"),
        ("[1]", "no JSON object"),
        ('{"version": 2}', "version 2; this Remora reads version 1"),
        ("{}", "version None"),
    ],
)
def test_bad_json_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "estimate.json"
    path.write_text(text)
    with pytest.raises(FileFormatError, match=message) as caught:
        read_json(path, "estimate", 1)
    assert str(path) in str(caught.value)


def test_missing_and_binary_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="there is no plan file"):
        read_text(tmp_path / "none", "plan")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FileFormatError, match="cannot be read"):
        read_text(tmp_path / "binary", "plan")


def test_json_is_plain(tmp_path: Path) -> None:
    write_json(tmp_path / "a", {"x": (1, 2)})
    assert json.loads((tmp_path / "a").read_text()) == {"x": [1, 2]}
