"""The command line of the operator: what flags mean, and what is told of those that mean nothing."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from lws_runtime.cli import main
from lws_runtime.config import FLAGS, Settings
from lws_runtime.kube.plugin import NoCluster
from lws_runtime.operator import logs, process
from lws_runtime.operator.process import Unusable


@pytest.fixture(autouse=True)
def signals_kept() -> Iterator[None]:
    """The command handles signals; this process goes on afterwards."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class Served:
    """Stands in for the operator: keeps what it is given, and ends as it is told."""

    def __init__(self) -> None:
        self.settings = Settings()
        self.kubeconfig = ""
        self.level, self.encoder = 0, ""
        self.times, self.stacks = "", None
        self.end: bool | Exception = True
        self.handlers: dict[int, Any] = {}

    async def serve(self, settings: Settings, kubeconfig: str, _: object) -> bool:
        self.settings, self.kubeconfig = settings, kubeconfig
        self.handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        if isinstance(self.end, Exception):
            raise self.end
        return self.end

    def set_up(self, level: int, encoder: str, times: str, stacks: int | None) -> None:
        self.level, self.encoder, self.times, self.stacks = level, encoder, times, stacks


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Served:
    served = Served()
    monkeypatch.setattr(process, "serve", served.serve)
    monkeypatch.setattr(logs, "set_up", served.set_up)
    return served


def lws(*words: str) -> Result:
    return CliRunner().invoke(main, ["operator", *words])


def test_flags_must_go_before_the_file(served: Served, tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(
        "apiVersion: config.lws.x-k8s.io/v1alpha1\nkind: Configuration\n"
        "leaderElection: {leaderElect: true, resourceName: own}\nclientConnection: {qps: 10, burst: 20}\n"
    )
    result = lws("--config", str(file), "--leader-elect=false", "--kube-api-qps", "7.5", "--kubeconfig", "k")
    assert result.exit_code == 0, result.output
    assert served.kubeconfig == "k"
    assert not served.settings.leader_election.enabled
    assert served.settings.leader_election.resource_name == "own"
    assert (served.settings.client.qps, served.settings.client.burst) == (7.5, 20)


def test_nothing_given_must_mean_the_defaults(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ENABLE_WEBHOOKS", raising=False)
    assert lws().exit_code == 0
    assert (served.settings, served.kubeconfig) == (Settings(), "")
    assert (served.level, served.encoder) == (logging.INFO, "json")


@pytest.mark.parametrize(("words", "dry"), [(["--dry-run"], True), (["--dry-run=false"], False), ([], False)])
def test_switches_must_be_as_in_go(served: Served, words: list[str], dry: bool) -> None:
    assert lws(*words).exit_code == 0
    assert served.settings.dry_run is dry


def test_namespaces_must_be_repeatable(served: Served) -> None:
    assert lws("--namespace", "a", "--namespace", "b").exit_code == 0
    assert served.settings.namespaces == ("a", "b")


@pytest.mark.parametrize(
    ("words", "level", "encoder"),
    [
        (["--zap-log-level", "debug"], logging.DEBUG, "json"),
        (["--zap-log-level", "error"], logging.ERROR, "json"),
        (["--zap-log-level=panic"], logging.CRITICAL, "json"),
        (["--zap-log-level=DEBUG"], logging.DEBUG, "json"),
        (["--zap-log-level=2"], logging.INFO, "json"),
        (["--zap-log-level=5"], logging.DEBUG, "json"),
        (["--zap-devel"], logging.INFO, "console"),
        (["--zap-devel=true", "--zap-encoder", "json"], logging.INFO, "json"),
        (["--zap-encoder=console"], logging.INFO, "console"),
    ],
)
def test_logging_flags_must_be_those_of_the_go_controller(
    served: Served, words: list[str], level: int, encoder: str
) -> None:
    result = lws(*words)
    assert result.exit_code == 0, result.output
    assert (served.level, served.encoder) == (level, encoder)


@pytest.mark.parametrize(
    ("words", "times", "stacks"),
    [
        ([], "", None),
        (["--zap-time-encoding=ISO8601", "--zap-stacktrace-level=error"], "iso8601", logging.ERROR),
        (["--zap-time-encoding", "epoch", "--zap-stacktrace-level", "Info"], "epoch", logging.INFO),
        (
            ["--zap-time-encoding=rfc3339nano", "--zap-stacktrace-level=panic"],
            "rfc3339nano",
            logging.CRITICAL,
        ),
    ],
)
def test_times_and_stack_traces_of_logs_must_be_as_the_flags_say(
    served: Served, words: list[str], times: str, stacks: int | None
) -> None:
    result = lws(*words)
    assert result.exit_code == 0, result.output
    assert (served.times, served.stacks) == (times, stacks)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--zap-time-encoding", "tomorrow"], "--zap-time-encoding"),
        (["--zap-stacktrace-level", "loud"], "--zap-stacktrace-level"),
        (["--zap-log-level", "loud"], "--zap-log-level: 'loud' is not debug, info, error, panic or a number"),
        (["--config", "/nowhere.yaml"], "/nowhere.yaml"),
        (["--leader-elect-lease-duration", "soon"], "--leader-elect-lease-duration"),
        (["--namespace", "No Such"], "--namespace"),
        (["--recreation-limit", "0"], "--recreation-limit"),
        (["--no-such-flag"], "--no-such-flag"),
        (["--kube-api-burst", "many"], "--kube-api-burst"),
    ],
)
def test_configuration_that_cannot_be_used_must_end_with_2_and_start_nothing(
    served: Served, words: list[str], told: str
) -> None:
    served.kubeconfig = "not started"
    result = lws(*words)
    assert result.exit_code == 2
    assert told in result.output
    assert served.kubeconfig == "not started"


@pytest.mark.parametrize(
    ("end", "code", "told"),
    [
        (True, 0, ""),
        (False, 1, ""),
        (NoCluster("no cluster: give --kubeconfig"), 1, "error: no cluster: give --kubeconfig\n"),
        (Unusable("Kubernetes v1.26 is too old"), 1, "error: Kubernetes v1.26 is too old\n"),
    ],
)
def test_ends_must_have_their_code_and_one_line(
    served: Served, end: bool | Exception, code: int, told: str
) -> None:
    served.end = end
    result = lws()
    assert (result.exit_code, result.stderr) == (code, told)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_must_end_it_with_0_before_anything_runs_and_do_nothing_at_the_end(
    served: Served, number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)
    assert lws().exit_code == 0
    served.handlers[number](number, None)
    assert codes == [0]
    assert signal.getsignal(number) is signal.SIG_IGN


def test_version_must_be_told_as_by_lws_itself(served: Served) -> None:
    served.kubeconfig = "not started"
    own, general = (CliRunner().invoke(main, words) for words in (["operator", "--version"], ["--version"]))
    assert (own.exit_code, own.output) == (0, general.output)
    assert served.kubeconfig == "not started"


def test_every_flag_must_be_told_by_help() -> None:
    told = lws("--help").output
    assert [flag.name for flag in FLAGS if f"--{flag.name}" not in told] == []
    assert "until SIGTERM or Ctrl-C. Exit codes: 0 after either; 1 if the cluster" in " ".join(told.split())


def test_missing_extra_must_be_told_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys  # noqa: PLC0415  # only to hide a package

    hidden: dict[str, Any] = {"lws_runtime.operator.process": None}
    for name, value in hidden.items():
        monkeypatch.setitem(sys.modules, name, value)
    result = lws()
    assert result.exit_code == 2
    assert "pip install '.[operator]' in a checkout" in result.output
