"""The process of one part: runs item after item and tells each in a journal.

Run as ``python -m benchmarks.gpu_campaign.worker REQUEST JOURNAL``. It ends early, with what is
left for another process, where the time is up or the device has to be freed.
"""

from __future__ import annotations

import gc
import json
import sys
import time
import warnings
from pathlib import Path
from typing import Any

from benchmarks.gpu_campaign.journal import OK, Journal, Record
from benchmarks.gpu_campaign.parts import Part

__all__ = ["main"]

_LAST_FRAMES = 3


def main() -> None:
    """Run what the request asks for."""
    start_s = time.monotonic()
    request = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    warnings.simplefilter("ignore")
    # Imported here, so that the clock has begun: PyTorch takes seconds.
    from benchmarks.gpu_campaign.sections import SECTIONS
    from benchmarks.gpu_campaign.subject import Subject

    # Garbage is collected around every item; what libraries loaded need not be looked at.
    gc.freeze()
    journal = Journal(Path(sys.argv[2]))
    records = [Record(**values) for values in request["known"]]
    subject = Subject(
        _part(request["part"]),
        request["batch"],
        request["device"],
        journal,
        {(record.section, record.label): record for record in records},
    )
    deadline_s = start_s + request["seconds"]
    for section in request["sections"]:
        for item in SECTIONS[section](subject):
            if (section, item.label) in subject.known:
                continue
            if time.monotonic() + item.least_s > deadline_s:
                return
            if not _run(subject, section, item, journal):
                return
        journal.finish(section)


def _part(values: dict[str, Any]) -> Part:
    lists = {name: tuple(values[name]) for name in ("sections", "plans")}
    return Part(**{**values, **lists})


def _run(subject: Any, section: str, item: Any, journal: Journal) -> bool:
    """Run one item; returns whether this process can go on."""
    from benchmarks.gpu_campaign.measuring import free_cached, is_broken, status_of
    from benchmarks.gpu_campaign.subject import NotAsked
    from remora.errors import MissingExtraError

    status, detail, figures = OK, "", {}
    start_s = time.monotonic()
    journal.begin(section, item.label, subject.batch_asked)
    try:
        figures = dict(item.run())
        if figures.get("run_status", OK) != OK:
            status, detail = figures["run_status"], figures["remark"]
        elif figures.get("passed") is False:
            status, detail = "wrong", ", ".join(figures["failures"])
    except (NotAsked, ImportError, MissingExtraError) as error:
        status, detail = "skipped", str(error)
    except Exception as error:
        if isinstance(error.__cause__, ImportError):
            # The model's own library is not there.
            status, detail = "skipped", str(error)
        else:
            status, detail = status_of(error), _words(error)
        # Its frames hold tensors.
        error.__traceback__ = None
    seconds = time.monotonic() - start_s
    record = Record(section, item.label, subject.batch_asked, status, detail, seconds, figures)
    subject.known[section, item.label] = record
    journal.end(record)
    if status == "out_of_memory" or is_broken(subject.device):
        return False
    free_cached(subject.device)
    return True


def _words(error: Exception) -> str:
    """The error and where it came from, in a few lines."""
    import traceback

    frames = traceback.extract_tb(error.__traceback__)[-_LAST_FRAMES:]
    places = " < ".join(f"{Path(f.filename).name}:{f.lineno} {f.name}" for f in reversed(frames))
    return f"{type(error).__name__}: {str(error).strip()[:600]} [{places}]"


if __name__ == "__main__":
    main()
