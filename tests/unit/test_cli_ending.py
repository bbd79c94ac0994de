"""How commands end where their output is not taken, cannot be written, and where they are interrupted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from lws_runtime import cli
from lws_runtime.cli.ending import EXIT_CLOSED, EXIT_INTERRUPTED, EXIT_OUTPUT, ending

ROOT = Path(__file__).parents[2]
EXAMPLE = str(ROOT / "examples" / "lws.yaml")
LWS = (sys.executable, "-m", "lws_runtime.cli")
FULL = Path("/dev/full")
needs_a_full_disk = pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full")


@needs_a_full_disk
@pytest.mark.parametrize(
    "words",
    [
        ("simulate", EXAMPLE),
        ("simulate", EXAMPLE, "-o", "html"),
        ("render", EXAMPLE),
        ("--help",),
        ("crd", "--help"),
    ],
)
def test_output_that_cannot_be_written_must_be_told_in_one_line(words: tuple[str, ...]) -> None:
    with FULL.open("wb") as full:
        done = subprocess.run([*LWS, *words], stdout=full, stderr=subprocess.PIPE, check=False)
    assert done.stderr == b"error: the output cannot be written: No space left on device\n"
    assert done.returncode == EXIT_OUTPUT == 74


@needs_a_full_disk
@pytest.mark.parametrize("words", [("validate", "/no/such/file"), ("validate",), ("paint",)])
def test_fault_that_cannot_be_told_must_have_the_code_of_that(words: tuple[str, ...]) -> None:
    with FULL.open("wb") as full:
        done = subprocess.run([*LWS, *words], stdout=full, stderr=full, check=False)
    assert done.returncode == EXIT_OUTPUT


@pytest.mark.parametrize("output", ["table", "json", "html"])
def test_output_that_nobody_reads_must_end_quietly(output: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [*LWS, "simulate", EXAMPLE, "-o", output], stdout=writing, stderr=subprocess.PIPE, check=False
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (EXIT_CLOSED, b"")
    assert EXIT_CLOSED == 128 + signal.SIGPIPE


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("simulate", EXAMPLE), 0),
        (("check", EXAMPLE, "--faults", "0", "--edits", "0", "--no-gate"), 0),
        (("validate", "/no/such/file"), 2),
    ],
)
def test_standard_error_that_is_closed_never_changes_what_a_command_does(
    words: tuple[str, ...], code: int
) -> None:
    closed = 'exec "$@" 2>&-'
    done = subprocess.run(["sh", "-c", closed, "sh", *LWS, *words], stdout=subprocess.PIPE, check=False)
    assert done.returncode == code
    assert bool(done.stdout) == (code == 0)


def test_interrupt_must_have_a_code_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command()
    def command() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "import_module", lambda _: type("Module", (), {"command": command}))
    result = CliRunner().invoke(cli.main, ["validate"])
    assert (result.exit_code, result.output) == (EXIT_INTERRUPTED, "")
    assert EXIT_INTERRUPTED == 128 + signal.SIGINT


@pytest.mark.parametrize(
    "problem", [OSError(28, "No space left on device"), BrokenPipeError(32, "Broken pipe")]
)
def test_error_that_is_not_of_the_output_never_is_taken_for_one(problem: OSError) -> None:
    """A connection that broke, say."""
    with pytest.raises(OSError, match=problem.strerror), ending():
        raise problem
