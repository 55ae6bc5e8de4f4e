"""The command ``remora``: picks the command before Hydra sees the rest, and sets the exit code.

Only light modules are imported here, so that help answers at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module

from remora.cli.help import COMMANDS, command_help, family, overview
from remora.errors import InvalidInputError, RemoraError, UnknownNameError

__all__ = ["main"]

_INTERRUPTED = 130
_BUG = 1


@dataclass(frozen=True, slots=True)
class _Line:
    """A command line taken apart."""

    command: str
    overrides: tuple[str, ...]
    help: bool
    verbose: bool
    multirun: bool
    version: bool


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: without the program's name; those of the process if None.

    Returns:
        The exit code: 0 done, 1 our bug, 2 wrong usage, 3 nothing fits, 4 verification failed,
        5 the user's model failed, 6 time limit, 130 interrupted.
    """
    verbose = False
    try:
        line = _parse(sys.argv[1:] if arguments is None else arguments)
        verbose = line.verbose
        return _dispatch(line)
    except RemoraError as error:
        from remora.cli.failure import print_failure

        print_failure(error, verbose)
        return error.exit_code
    except KeyboardInterrupt:
        print("remora: interrupted", file=sys.stderr)
        return _INTERRUPTED
    except Exception as error:
        from remora.cli.failure import print_bug

        print_bug(error, verbose)
        return _BUG


def _parse(arguments: Sequence[str]) -> _Line:
    flags = {"-h", "--help", "-v", "--verbose", "-m", "--multirun", "--version"}
    given = {argument for argument in arguments if argument in flags}
    rest = [argument for argument in arguments if argument not in flags]
    for argument in rest:
        if argument.startswith("-"):
            raise UnknownNameError("option", argument, flags)
    words = 2 if rest and family(rest[0]) else 1
    return _Line(
        command=" ".join(rest[:words]),
        overrides=tuple(rest[words:]),
        help=bool(given & {"-h", "--help"}),
        verbose=bool(given & {"-v", "--verbose"}),
        multirun=bool(given & {"-m", "--multirun"}),
        version="--version" in given,
    )


def _dispatch(line: _Line) -> int:
    if line.version:
        from remora import __version__

        print(f"remora {__version__}")
        return 0
    if not line.command:
        print(overview(), file=sys.stdout if line.help else sys.stderr)
        return 0 if line.help else InvalidInputError.exit_code
    if line.command not in COMMANDS:
        return _unknown(line)
    if line.help:
        print(command_help(line.command))
        return 0
    _prepare(line.verbose)
    if not COMMANDS[line.command].keys:
        if line.overrides:
            raise InvalidInputError(f"{line.command} takes no argument {line.overrides[0]!r}")
        module, *words = line.command.split()
        import_module(f"remora.cli.{module}").run(*words)
        return 0
    from remora.cli.compose import run_composed

    run_composed(line.command, line.overrides, line.multirun)
    return 0


def _unknown(line: _Line) -> int:
    """Help for the first word of several commands, else the error about the word that is wrong."""
    first, _, second = line.command.partition(" ")
    allowed = family(first)
    if allowed and not second:
        if line.help:
            print("\n\n".join(command_help(f"{first} {word}") for word in allowed))
            return 0
        raise InvalidInputError(f"{first} needs a second word, allowed: {', '.join(allowed)}")
    if allowed:
        raise UnknownNameError(first, second, allowed)
    if "=" in first:
        firsts = dict.fromkeys(name.split()[0] for name in COMMANDS)
        raise InvalidInputError(f"the first argument is {first!r}, allowed: {', '.join(firsts)}")
    raise UnknownNameError("command", first, {name.split()[0] for name in COMMANDS})


def _prepare(verbose: bool) -> None:
    """Set up logging before heavy libraries are imported."""
    import logging

    # PyTorch's profiler prints a line per run otherwise; it reads this when it is loaded.
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")
    # A model of the user's own lies beside where they stand.
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    logging.basicConfig(format="%(name)s: %(message)s", stream=sys.stderr)
    logging.getLogger("remora").setLevel(logging.INFO if verbose else logging.WARNING)
    if not verbose:
        # It logs a traceback of its own before a failing forward raises the same error. PyTorch
        # sets its loggers' levels when it is imported, so a level set here would be lost.
        logging.getLogger("torch._subclasses.fake_tensor").addFilter(lambda record: False)
        # Whatever imports torchao would tell which of its kernels are for other machines.
        for name in ("torchao", "torchao.kernel.intmm", "torch.utils._pytree"):
            logging.getLogger(name).addFilter(lambda record: False)


if __name__ == "__main__":
    sys.exit(main())
