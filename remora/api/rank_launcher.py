"""The process that starts the ranks of a run with torchrun and notes which of them failed.

Run as ``python -m remora.api.rank_launcher EXIT_CODES NUM_RANKS LOGS MODULE ARGUMENT...``. It is
torchrun's own main function; torchrun only prints who failed, and this writes it to a file.
"""

from __future__ import annotations

import sys
from pathlib import Path

from torch.distributed import run
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

from remora.api.run_member import join_run
from remora.report.files import write_json

__all__ = ["main"]


def main() -> None:
    """Start the ranks and wait for them; the exit code is 1 if one of them failed."""
    join_run()
    exit_codes, num_ranks, logs, *command = sys.argv[1:]
    options = [f"--nproc-per-node={num_ranks}", f"--log-dir={logs}", "--redirects=3"]
    try:
        run.main(["--standalone", *options, "-m", *command])
    except ChildFailedError as error:
        codes = {str(rank): failure.exitcode for rank, failure in error.failures.items()}
        write_json(Path(exit_codes), codes)
        sys.exit(1)


if __name__ == "__main__":
    main()
