"""`lws operator`: takes care of all LeaderWorkerSets in a cluster."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any, Final

import click

from lws_core.values import FrozenMap, Json
from lws_runtime.config import FLAGS, BadConfiguration, Flag, Settings, load_settings
from lws_runtime.operator import logs

from . import version_option
from .loading import BadInput, say

EXIT_CLUSTER: Final = 1
_STOPPING: Final = (signal.SIGINT, signal.SIGTERM)
_END_S: Final = 4.7
_NUMBERS: Final = {"kube-api-qps": float, "kube-api-burst": int, "recreation-limit": int}
_SWITCHES: Final = ("leader-elect", "dry-run", "exclusive-placement-across-namespaces")
_VERBOSE: Final = 3  # --zap-log-level from which on everything is told
_LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "error": logging.ERROR,
    "panic": logging.CRITICAL,  # nothing is logged at it: silence, or no stack traces
}


def _flags(command: Callable[..., Any]) -> Callable[..., Any]:
    """The flags that stand for fields of the configuration file."""
    for flag in reversed(FLAGS):
        command = _option(flag)(command)
    return command


def _option(flag: Flag) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    text = f"{flag.help} [deprecated: use the file]" if flag.deprecated else flag.help
    if flag.name in _SWITCHES:
        # As in Go: alone it means true, and =false means false.
        return click.option(
            f"--{flag.name}", type=click.BOOL, is_flag=False, flag_value="true", metavar="[=BOOL]", help=text
        )
    if flag.name == "namespace":
        return click.option(f"--{flag.name}", multiple=True, help=text)
    return click.option(f"--{flag.name}", type=_NUMBERS.get(flag.name, str), help=text)


@click.command()
@click.option("--config", metavar="FILE", help="The configuration file, docs/operator.md.")
@click.option("--kubeconfig", metavar="FILE", default="", help="How to reach the cluster.")
@version_option
@_flags
@click.option("--zap-log-level", default="info", help="debug, info, error, panic, or a number: 3 tells all.")
@click.option("--zap-encoder", type=click.Choice(["json", "console"]), help="Form of log lines.")
@click.option("--zap-devel", type=click.BOOL, is_flag=False, flag_value="true", help="Log for people.")
@click.option(
    "--zap-stacktrace-level",
    type=click.Choice([*_LEVELS], case_sensitive=False),
    help="Level from which on lines have stack traces.",
)
@click.option(
    "--zap-time-encoding",
    type=click.Choice([*logs.TIMES], case_sensitive=False),
    help="Form of the time of lines.",
)
def command(
    config: str | None,
    kubeconfig: str,
    zap_log_level: str,
    zap_encoder: str | None,
    zap_devel: bool | None,
    zap_stacktrace_level: str | None,
    zap_time_encoding: str | None,
    **flags: Any,
) -> None:
    """Take care of all LeaderWorkerSets in a cluster, until SIGTERM or Ctrl-C.

    Exit codes: 0 after either; 1 if the cluster cannot be used or the lease is lost; 2 for a configuration
    that cannot be used.

    \b
    Example:
      lws operator --config manager.yaml
      lws operator --dry-run --namespace serving
    """
    for number in _STOPPING:
        signal.signal(number, _stop)
    level = _level(zap_log_level)
    try:
        settings = load_settings(config, _given(flags))
    except BadConfiguration as problem:
        raise BadInput(problem.lines) from None
    try:
        from lws_runtime.kube.plugin import NoCluster  # noqa: PLC0415  # only with the extra
        from lws_runtime.operator.process import Unusable, serve  # noqa: PLC0415
    except ImportError as problem:
        install = "pip install '.[operator]' in a checkout"
        raise BadInput([f"{problem.name} is missing: {install}"]) from None
    is_console = zap_encoder == "console" or (zap_devel and not zap_encoder)
    stacktrace_level = None if zap_stacktrace_level is None else _LEVELS[zap_stacktrace_level]
    logs.set_up(level, "console" if is_console else "json", zap_time_encoding or "", stacktrace_level)
    ended_well = _run(serve, (NoCluster, Unusable), settings, kubeconfig)
    sys.exit(0 if ended_well else EXIT_CLUSTER)


def _run(
    serve: Callable[..., Any], faults: tuple[type[Exception], ...], settings: Settings, kubeconfig: str
) -> bool:
    import asyncio  # noqa: PLC0415  # other commands do without

    async def served() -> bool:
        try:
            return bool(await serve(settings, kubeconfig, deadline.end_for_sure))
        except faults as problem:  # told here: what is still waited for may cut the end short
            say("error", str(problem))
            return False
        finally:
            deadline.end_for_sure(EXIT_CLUSTER)

    deadline = _Deadline()
    try:
        ended_well = asyncio.run(served())  # at its end it waits for threads, and hears no signal
    finally:
        deadline.cancel()
    for number in _STOPPING:
        signal.signal(number, signal.SIG_IGN)  # we are about to end
    return ended_well


def _stop(*_: object) -> None:
    """What a signal does as long as nothing has begun. An exception would be lost in the import of a module,
    where it may come."""
    os._exit(0)


class _Deadline:
    """It ends the process soon, whatever still waits: a name that is being looked up, say, cannot be
    cancelled. Who sets it first decides with which code."""

    def __init__(self) -> None:
        self._timer: threading.Timer | None = None

    def end_for_sure(self, code: int) -> None:
        """Set it."""
        if self._timer is None:
            self._timer = threading.Timer(_END_S, os._exit, (code,))
            self._timer.daemon = True
            self._timer.start()

    def cancel(self) -> None:
        """There is nothing left to wait for."""
        if self._timer is not None:
            self._timer.cancel()


def _given(flags: dict[str, Any]) -> FrozenMap[Json]:
    """The flags that were given, by their name in FLAGS."""
    named = {name.replace("_", "-"): value for name, value in flags.items()}
    return FrozenMap({name: value for name, value in named.items() if value not in (None, ())})


def _level(text: str) -> int:
    if text.lower() in _LEVELS:
        return _LEVELS[text.lower()]
    if text.isdecimal():
        return logging.DEBUG if int(text) >= _VERBOSE else logging.INFO
    raise BadInput([f"--zap-log-level: {text!r} is not debug, info, error, panic or a number"])
