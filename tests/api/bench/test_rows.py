from __future__ import annotations

from pathlib import Path

import pytest

from remora.api.bench.rows import append_row, read_rows
from remora.errors import FileFormatError
from tests.api.bench.runs import row


def test_rows_come_back_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "rows.jsonl"
    rows = [row("greedy", 1.25), row("best", None, seed=1, note='a "quoted" reason')]
    assert read_rows(path) == ([], [])
    for one in rows:
        append_row(path, one)
    assert read_rows(path) == (rows, [])


def test_a_row_cut_short_by_a_kill_is_left_out_and_spoils_no_other(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    first, second = row("greedy", 1.0), row("best", 2.0)
    append_row(path, first)
    append_row(path, second)
    whole = path.read_bytes()
    for kept in range(len(whole) - 2, whole.index(b"\n") + 1, -40):
        path.write_bytes(whole[:kept])
        append_row(path, second)
        rows, faults = read_rows(path)
        assert rows == [first, second]
        assert len(faults) == 1
        assert "line 2 is no row" in faults[0]


def test_a_line_of_other_fields_is_no_row(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"problem": "a"}\n[]\n\n')
    rows, faults = read_rows(path)
    assert rows == []
    assert len(faults) == 2


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="cannot be read"):
        read_rows(tmp_path)


def test_the_key_tells_questions_apart() -> None:
    one = row("greedy", 1.0)
    assert one.key == row("greedy", 2.0, search_s=9.0).key
    for change in ({"digest": "b"}, {"seed": 1}, {"time_limit_s": 1.0}):
        assert one.key != row("greedy", 1.0, **change).key
