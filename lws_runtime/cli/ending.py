"""How a command ends where its output cannot be written, or where it is interrupted: with a code of its own.

Without this, click and Python would end it with code 1, which stands for something that a command has found.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

import click
from click.exceptions import Exit

EXIT_OUTPUT: Final = 74  # EX_IOERR of sysexits.h
EXIT_INTERRUPTED: Final = 130  # as a shell has it for SIGINT
EXIT_CLOSED: Final = 141  # and for SIGPIPE
_WRITERS: Final = ("click", "rich")


@contextmanager
def ending() -> Iterator[None]:
    """Raises Exit in place of an interrupt, of an error of the own output, and of a fault that was shown."""
    try:
        try:
            yield
        except click.ClickException as problem:  # shown here: that can fail as well
            problem.show()
            raise Exit(problem.exit_code) from None
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    except (KeyboardInterrupt, click.Abort):
        raise Exit(EXIT_INTERRUPTED) from None
    except OSError as problem:
        if not _is_of_output(problem):
            raise
        _silence()
        if problem.errno == errno.EPIPE:
            raise Exit(EXIT_CLOSED) from None
        with suppress(OSError):
            click.echo(f"error: the output cannot be written: {problem.strerror}", err=True)
        raise Exit(EXIT_OUTPUT) from None


def _is_of_output(problem: OSError) -> bool:
    """Whether it was raised where output is written, rather than where a command reads or talks."""
    trace = problem.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    module = "" if trace is None else str(trace.tb_frame.f_globals["__name__"])
    return problem.filename is None and (module == __name__ or module.partition(".")[0] in _WRITERS)


def _silence() -> None:
    """Let streams that fail take no more: Python would try again at its end, and fail with another code."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OSError:
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, stream.fileno())
            os.close(nothing)
