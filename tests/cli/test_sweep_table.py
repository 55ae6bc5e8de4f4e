from __future__ import annotations

from pathlib import Path

from remora.cli.sweep_table import gathered, write_job, write_sweep


def test_jobs_stand_in_the_order_of_their_figures(tmp_path: Path) -> None:
    for number, (seed, figure) in enumerate(((0, 0.3), (1, 0.1), (2, 0.2))):
        write_job(tmp_path / str(number), [f"seed={seed}", "tracker=none"], figure)
    (tmp_path / "3").mkdir()
    (tmp_path / "notes").mkdir()
    header, rows = gathered(tmp_path)
    assert header == ("job", "seed", "tracker", "figure")
    assert [row[:2] for row in rows] == [("1", "1"), ("2", "2"), ("0", "0"), ("3", "-")]
    assert rows[-1][-1] == "-"
    text = write_sweep(tmp_path, header, rows, "remora train-agent -m seed=0,1,2").read_text()
    assert text.splitlines()[2] == "| job | seed | tracker | figure |"


def test_arguments_that_all_jobs_share_are_left_out(tmp_path: Path) -> None:
    for number in range(2):
        write_job(tmp_path / str(number), [f"seed={number}", "tracker=none"], None)
    assert gathered(tmp_path)[0] == ("job", "seed", "figure")


def test_a_folder_without_jobs_has_no_rows(tmp_path: Path) -> None:
    assert gathered(tmp_path)[1] == []
