"""Runs the command line as `python -m lws_runtime.cli`."""

from . import main

main(prog_name="lws")
