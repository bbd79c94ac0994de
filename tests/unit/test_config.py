"""Reading an operator's configuration: fields, flags, the environment, and every fault at once."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest

from lws_core.options import Options
from lws_core.values import EMPTY, FrozenMap, Json, as_map, freeze_map
from lws_runtime.config import (
    _SCHEMA,
    API_VERSION,
    FLAGS,
    KIND,
    Address,
    BadConfiguration,
    Settings,
    load_settings,
    operator_namespace,
    read_settings,
)
from lws_runtime.durations import parse_duration
from lws_runtime.tls import TLS_12_SUITES, TlsSettings, server_context
from lws_runtime.webhook.certificates import self_signed

FULL = """
apiVersion: config.lws.x-k8s.io/v1alpha1
kind: Configuration
webhook:
  port: 9444
  host: 127.0.0.1
  certDir: /certs
leaderElection:
  leaderElect: false
  leaseDuration: 1m30s
  renewDeadline: 20s
  retryPeriod: 500ms
  resourceLock: leases
  resourceName: another
  resourceNamespace: ignored
metrics:
  bindAddress: "[::1]:8444"
health:
  healthProbeBindAddress: ":8082"
  readinessEndpointName: /ready
  livenessEndpointName: /alive
tls:
  minVersion: VersionTLS12
  cipherSuites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, TLS_AES_128_GCM_SHA256]
internalCertManagement:
  enable: false
  webhookServiceName: service
  webhookSecretName: secret.name
gangSchedulingManagement:
  schedulerProvider: volcano
clientConnection:
  qps: 12.5
  burst: 20
lws:
  namespaces: [a, b]
  dryRun: true
  recreationLimit: 3
  exclusivePlacementAcrossNamespaces: true
  progressDeadline: 20m
  brokenAfter: 30m
  stuckAfter: 1m
  statusInterval: 2500ms
  foreignObjectInterval: 5s
"""


def document(**fields: Any) -> FrozenMap[Json]:
    return freeze_map({"apiVersion": API_VERSION, "kind": KIND, **fields})


def test_dry_run_never_listens_anywhere_unless_it_is_told_to() -> None:
    """It runs beside an operator, on a machine with other things, and twice at once."""
    found = load_settings(None, {"dry-run": True, "metrics-bind-address": ":1"}, {})
    assert (found.metrics.address, found.health.address) == (Address("", 1), None)
    found = read_settings(document(lws={"dryRun": True}, health={"healthProbeBindAddress": ":2"}))
    assert (found.metrics.address, found.health.address) == (None, Address("", 2))
    assert load_settings(None, {"dry-run": False}, {}).metrics.address == Address("", 8443)


def faults(**fields: Any) -> tuple[str, ...]:
    with pytest.raises(BadConfiguration) as raised:
        read_settings(document(**fields))
    return raised.value.lines


def load(tmp_path: Path, text: str, overrides: Mapping[str, Json] = EMPTY) -> Settings:
    file = tmp_path / "configuration.yaml"
    file.write_text(text, encoding="utf-8")
    return load_settings(str(file), overrides, {})


# -- what is read


def test_configuration_without_fields_must_have_every_default() -> None:
    settings = read_settings(document())
    assert settings == Settings() == load_settings(None, {}, {})
    assert settings.webhook.address == Address("", 9443)
    assert settings.webhook.cert_dir == "/tmp/k8s-webhook-server/serving-certs"
    assert settings.leader_election.enabled
    assert settings.leader_election.resource_name == "b8b2488c.x-k8s.io"
    assert settings.metrics.address == Address("", 8443)
    assert settings.health.address == Address("", 8081)
    assert settings.certificates.internal
    assert settings.options == Options()


def test_configuration_must_give_every_field(tmp_path: Path) -> None:
    settings = load(tmp_path, FULL)
    default, leading = Settings(), settings.leader_election
    for field in attrs.fields(Settings):
        assert getattr(settings, field.name) != getattr(default, field.name), field.name
    assert settings.webhook.address == Address("127.0.0.1", 9444)
    assert (leading.lease_duration_s, leading.renew_deadline_s, leading.retry_period_s) == (90.0, 20.0, 0.5)
    assert settings.metrics.address == Address("::1", 8444)
    assert (settings.health.readiness_path, settings.health.liveness_path) == ("/ready", "/alive")
    assert (settings.client.qps, settings.client.burst) == (12.5, 20)
    assert settings.namespaces == ("a", "b")
    assert settings.options == Options(
        gang_scheduling=True,
        exclusive_across_namespaces=True,
        recreation_limit=3,
        broken_after_s=1800.0,
        progress_deadline_s=1200.0,
        stuck_after_s=60.0,
        foreign_object_interval_s=5.0,
        status_interval_s=2.5,
    )


def test_empty_fields_must_count_as_left_out() -> None:
    assert read_settings(document(webhook={"port": None, "certDir": ""}, metrics=None)) == Settings()
    assert read_settings(document(webhook={"port": 0}, health={"healthProbeBindAddress": ""})) == Settings()


def test_address_of_zero_must_turn_a_server_off() -> None:
    settings = read_settings(document(metrics={"bindAddress": "0"}, health={"healthProbeBindAddress": "0"}))
    assert settings.metrics.address is None
    assert settings.health.address is None


@pytest.mark.parametrize(
    ("qps", "burst", "expected"), [(-1, 5, (None, 5)), (0, 0, (5.0, 10)), (0.017, 1, (0.017, 1))]
)
def test_rates_must_be_read_as_the_go_client_reads_them(qps: float, burst: int, expected: object) -> None:
    client = read_settings(document(clientConnection={"qps": qps, "burst": burst})).client
    assert (client.qps, client.burst) == expected


@pytest.mark.parametrize(
    ("text", "expected_s"),
    [
        ("15s", 15),
        ("1m30s", 90),
        ("100ms", 0.1),
        ("1.5h", 5400),
        ("1h0.5m", 3630),
        ("2us", 2e-6),
        ("3µs", 3e-6),
        ("3μs", 3e-6),
        ("7ns", 7e-9),
        ("+1s", 1),
        ("-1s", -1),
        ("0", 0),
        (".5s", 0.5),
        ("1.s", 1),
    ],
)
def test_durations_must_be_read_as_go_reads_them(text: str, expected_s: float) -> None:
    assert parse_duration(text) == expected_s


@pytest.mark.parametrize(
    "text", ["", "1", "s", ".s", "1d", "1 s", "1s ", "١s", "--1s", "1e3s", "300y", "9999999h", "1s" * 100]
)
def test_durations_that_go_refuses_must_be_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be a duration"):
        parse_duration(text)


# -- faults


def test_unknown_fields_must_be_named_with_a_hint() -> None:
    assert faults(webhok={}, leaderElection={"leaseDuraton": "1s"}, spec={}) == (
        'leaderElection.leaseDuraton: Unknown field: did you mean "leaseDuration"?',
        'webhok: Unknown field: did you mean "webhook"?',
        "spec: Unknown field",
    )


def test_kind_and_version_must_be_right() -> None:
    with pytest.raises(BadConfiguration) as raised:
        read_settings(freeze_map({"apiVersion": "lws.x-k8s.io/v1alpha1"}))
    assert raised.value.lines == (
        'apiVersion: Unsupported value: "lws.x-k8s.io/v1alpha1": supported values: '
        '"config.lws.x-k8s.io/v1alpha1"',
        'kind: Required value: must be "Configuration"',
    )


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        (
            {"gangSchedulingManagement": {}},
            "gangSchedulingManagement.schedulerProvider: Required value: "
            "must be set when gang scheduling is enabled",
        ),
        (
            {"gangSchedulingManagement": {"schedulerProvider": "kueue"}},
            'gangSchedulingManagement.schedulerProvider: Unsupported value: "kueue": '
            'supported values: "volcano"',
        ),
        (
            {"tls": {"minVersion": "VersionTLS11"}},
            'tls.minVersion: Invalid value: "VersionTLS11": '
            "invalid minVersion. Please use VersionTLS12 or VersionTLS13",
        ),
        (
            {"tls": {"minVersion": "VersionTLS13", "cipherSuites": ["TLS_AES_128_GCM_SHA256"]}},
            'tls.cipherSuites: Invalid value: ["TLS_AES_128_GCM_SHA256"]: '
            "cipher suites may not be specified when minVersion is 'VersionTLS13'",
        ),
        (
            {"tls": {"cipherSuites": ["TLS_RSA_WITH_RC4_128_SHA"]}},
            'tls.cipherSuites[0]: Invalid value: "TLS_RSA_WITH_RC4_128_SHA": '
            "is no cipher suite that Go and OpenSSL both have",
        ),
        (
            {"leaderElection": {"leaseDuration": "10s"}},
            'leaderElection.leaseDuration: Invalid value: "10s": must be greater than renewDeadline',
        ),
        (
            {"leaderElection": {"leaseDuration": "2147483648s"}},
            'leaderElection.leaseDuration: Invalid value: "2147483648s": '
            "must be less than or equal to 2147483647s",
        ),
        (
            {"clientConnection": {"qps": 0.01}},
            "clientConnection.qps: Invalid value: 0.01: must be greater than or equal to 0.017, "
            "a request a minute; negative: no limit",
        ),
        (
            {"leaderElection": {"retryPeriod": "9s"}},
            'leaderElection.renewDeadline: Invalid value: "10s": must be greater than 1.2 times retryPeriod',
        ),
        (
            {"leaderElection": {"retryPeriod": "-1s"}},
            'leaderElection.retryPeriod: Invalid value: "-1s": must be greater than 0',
        ),
        (
            {"leaderElection": {"resourceLock": "configmaps"}},
            'leaderElection.resourceLock: Unsupported value: "configmaps": supported values: "leases"',
        ),
        (
            {"webhook": {"port": 70000}},
            "webhook.port: Invalid value: 70000: must be less than or equal to 65535",
        ),
        ({"webhook": {"port": "9443"}}, 'webhook.port: Invalid value: "9443": must be an integer'),
        ({"webhook": []}, 'webhook: Invalid value: "array": must be a map of fields'),
        (
            {"clientConnection": {"burst": -1}},
            "clientConnection.burst: Invalid value: -1: must be greater than or equal to 0",
        ),
        (
            {"lws": {"recreationLimit": 0}},
            "lws.recreationLimit: Invalid value: 0: must be greater than or equal to 1",
        ),
        (
            {"lws": {"foreignObjectInterval": "1ns"}},
            'lws.foreignObjectInterval: Invalid value: "1ns": must be greater than or equal to 1s',
        ),
        (
            {"leaderElection": {"retryPeriod": "1ns"}},
            'leaderElection.retryPeriod: Invalid value: "1ns": must be greater than or equal to 100ms',
        ),
        (
            {"webhook": {"host": "a..b"}},
            'webhook.host: Invalid value: "a..b": must be a name or an address of a host',
        ),
        (
            {"health": {"readinessEndpointName": "readyz"}},
            'health.readinessEndpointName: Invalid value: "readyz": must be a path such as "/readyz"',
        ),
    ],
)
def test_a_fault_must_be_told_in_these_words(fields: dict[str, Any], told: str) -> None:
    assert faults(**fields) == (told,)


@pytest.mark.parametrize(
    "address",
    ["8443", ":", ":x", "a b:1", "::1:8443", ":65536", "https://a:1", "[x]y:1", "a..b:1", f"{'a' * 64}:1"],
)
def test_addresses_must_have_a_port_and_a_host_that_can_be_looked_up(address: str) -> None:
    [line] = faults(metrics={"bindAddress": address})
    assert line.startswith("metrics.bindAddress: Invalid value: ")


@pytest.mark.parametrize("rate", [float("nan"), float("inf"), float("-inf")])
def test_rate_that_is_no_number_must_be_refused(rate: float) -> None:
    with pytest.raises(BadConfiguration) as raised:
        load_settings(None, {"kube-api-qps": rate}, {})
    assert raised.value.lines == (f'--kube-api-qps: Invalid value: "{rate}": must be a finite number',)


@pytest.mark.parametrize("rate", [1e-9, 5e-324])
def test_rate_by_which_a_request_waits_for_ever_must_be_refused(rate: float) -> None:
    with pytest.raises(BadConfiguration) as raised:
        load_settings(None, {"kube-api-qps": rate}, {})
    [line] = raised.value.lines
    assert line.startswith(f"--kube-api-qps: Invalid value: {rate}: must be greater than or equal to 0.017")


def test_lease_must_be_as_long_as_its_record_can_hold() -> None:
    found = read_settings(document(leaderElection={"leaseDuration": "2147483647s"}))
    assert found.leader_election.lease_duration_s == 2**31 - 1


def test_namespace_that_is_given_twice_must_count_once() -> None:
    assert read_settings(document(lws={"namespaces": ["b", "a", "b"]})).namespaces == ("b", "a")


@pytest.mark.parametrize(
    "fields",
    [
        {"readinessEndpointName": "/x", "livenessEndpointName": "/x"},
        {"readinessEndpointName": "/healthz"},
        {"livenessEndpointName": "/readyz"},
    ],
)
def test_probes_never_may_have_one_path(fields: dict[str, str]) -> None:
    """A replica that is not ready would be killed."""
    [line] = faults(health=fields)
    assert line.startswith("health.livenessEndpointName: Invalid value: ")
    assert line.endswith(": must not be readinessEndpointName")


def test_names_of_certificates_must_be_right_only_where_they_are_used() -> None:
    names = {"webhookServiceName": "Service.x", "webhookSecretName": "Secret"}
    service, secret = faults(internalCertManagement=names)
    assert service.startswith(
        'internalCertManagement.webhookServiceName: Invalid value: "Service.x": a DNS-1035'
    )
    assert secret.startswith('internalCertManagement.webhookSecretName: Invalid value: "Secret": a lowercase')
    assert read_settings(document(internalCertManagement={**names, "enable": False}))


def test_periods_of_an_election_that_is_off_must_not_matter() -> None:
    assert read_settings(document(leaderElection={"leaderElect": False, "leaseDuration": "1s"}))


def test_every_fault_must_be_told_at_once(tmp_path: Path) -> None:
    text = (
        "apiVersion: v1\nkind: Configuration\nwebhok: {}\nmetrics: {bindAddress: x}\nlws: {namespaces: [A]}\n"
    )
    with pytest.raises(BadConfiguration) as raised:
        load(tmp_path, text, {"leader-elect-lease-duration": "5"})
    told = [line.split(": ")[-1 if line.startswith("--") else 1] for line in raised.value.lines]
    assert len(told) == 5
    assert all(line.startswith((str(tmp_path), "--")) for line in raised.value.lines)


def test_faults_of_one_field_must_be_told_once() -> None:
    assert faults(leaderElection={"leaseDuration": 15}) == (
        "leaderElection.leaseDuration: Invalid value: 15: must be a string",
    )


# -- flags


def test_flags_must_override_the_file(tmp_path: Path) -> None:
    overrides = {"leader-elect": True, "kube-api-qps": 7.0, "namespace": ("c",), "metrics-bind-address": "0"}
    settings = load(tmp_path, FULL, overrides)
    assert settings.leader_election.enabled
    assert settings.client.qps == 7.0
    assert settings.namespaces == ("c",)
    assert settings.metrics.address is None
    assert settings.leader_election.lease_duration_s == 90.0


def test_flags_must_do_without_a_file() -> None:
    settings = load_settings(None, {"leader-elect-lease-duration": "20s", "dry-run": True}, {})
    assert settings.leader_election.lease_duration_s == 20.0
    assert settings.dry_run


def test_a_fault_of_a_flag_must_name_the_flag(tmp_path: Path) -> None:
    with pytest.raises(BadConfiguration) as raised:
        load(tmp_path, FULL, {"leader-elect-retry-period": "x", "namespace": ("a", "B_")})
    first, second = raised.value.lines
    assert first.startswith('--leader-elect-retry-period: Invalid value: "x": must be a duration')
    assert second.startswith('--namespace: Invalid value: "B_": ')


def test_a_flag_must_hide_the_fault_of_its_field_only(tmp_path: Path) -> None:
    text = (
        "apiVersion: config.lws.x-k8s.io/v1alpha1\nkind: Configuration\nleaderElection: {leaseDuration: 5}\n"
    )
    assert (
        load(tmp_path, text, {"leader-elect-lease-duration": "20s"}).leader_election.lease_duration_s == 20.0
    )
    with pytest.raises(BadConfiguration, match="leaderElection: Invalid value"):
        load(tmp_path, text.replace("{leaseDuration: 5}", "5"), {"leader-elect-lease-duration": "20s"})


def test_every_flag_must_set_a_field() -> None:
    values: dict[str, Json] = {
        "kube-api-qps": 1.0,
        "kube-api-burst": 1,
        "leader-elect": False,
        "metrics-bind-address": ":1",
        "health-probe-bind-address": ":1",
        "leader-elect-lease-duration": "1h",
        "leader-elect-renew-deadline": "12s",
        "leader-elect-retry-period": "1s",
        "leader-elect-resource-name": "x",
        "namespace": ("x",),
        "dry-run": True,
        "recreation-limit": 1,
        "exclusive-placement-across-namespaces": True,
        "progress-deadline": "1s",
        "broken-after": "1s",
    }
    assert {flag.name for flag in FLAGS} == {*values, "leader-elect-resource-lock"}
    for name, value in values.items():
        assert load_settings(None, {name: value}, {}) != Settings(), name


def test_webhooks_must_be_off_where_the_environment_says_so() -> None:
    assert not load_settings(None, {}, {"ENABLE_WEBHOOKS": "false"}).webhook.enabled
    assert load_settings(None, {}, {"ENABLE_WEBHOOKS": "true"}).webhook.enabled


# -- files


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "holds no manifest"),
        ("- a\n", "not an object"),
        ("a: [", "is not YAML"),
        ("a: 1\na: 2\n", "twice|duplicate"),
    ],
)
def test_files_that_hold_no_configuration_must_be_refused(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(BadConfiguration, match=told):
        load(tmp_path, text)


def test_files_must_hold_one_configuration(tmp_path: Path) -> None:
    with pytest.raises(BadConfiguration, match="more than one document"):
        load(tmp_path, f"{FULL}---\n{FULL}")


def test_a_file_that_is_missing_or_a_directory_must_be_said_so(tmp_path: Path) -> None:
    with pytest.raises(BadConfiguration, match=r"missing\.yaml: cannot be read: No such file"):
        load_settings(str(tmp_path / "missing.yaml"), {}, {})
    with pytest.raises(BadConfiguration, match="is a directory"):
        load_settings(str(tmp_path), {}, {})


def test_namespace_must_be_the_service_account_s(tmp_path: Path) -> None:
    file = tmp_path / "namespace"
    assert operator_namespace(file) == "lws-system"
    file.write_text("mine\n")
    assert operator_namespace(file) == "mine"


# -- TLS


def test_cipher_suites_must_all_be_known_to_openssl(tmp_path: Path) -> None:
    certificate, key = self_signed("localhost", now_s=1.8e9)
    (tmp_path / "c").write_bytes(certificate)
    (tmp_path / "k").write_bytes(key)
    for suite, name in TLS_12_SUITES.items():
        context = server_context(TlsSettings("", (suite,)), tmp_path / "c", tmp_path / "k")
        assert name in [cipher["name"] for cipher in context.get_ciphers()]
    only_13 = server_context(TlsSettings("", ("TLS_AES_128_GCM_SHA256",)), tmp_path / "c", tmp_path / "k")
    assert only_13.minimum_version.name == "TLSv1_3"
    assert server_context(TlsSettings(), tmp_path / "c", tmp_path / "k").minimum_version.name == "TLSv1_2"


# -- what the page says


def documented() -> dict[str, str]:
    """Each field or flag that docs/operator.md has a row for, and the second cell of that row."""
    text = (Path(__file__).parents[2] / "docs" / "operator.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(?:--)?([\w.-]+)`[^|]*\| ([^|]*?) \|", text, flags=re.M)
    return dict(rows)


def leaves(schema: FrozenMap[Json], path: str = "") -> Iterator[str]:
    for name, declared in as_map(schema.get("properties")).items():
        below = f"{path}.{name}" if path else name
        yield from [below] if "properties" not in as_map(declared) else leaves(as_map(declared), below)


def test_page_must_have_a_row_for_every_field_and_flag() -> None:
    rows = documented()
    assert set(leaves(_SCHEMA)) - {"apiVersion", "kind"} <= set(rows)
    assert {flag.name: f"`{flag.path}`" for flag in FLAGS}.items() <= rows.items()


def test_page_must_give_the_defaults() -> None:
    values = {path: cell.strip("`") for path, cell in documented().items() if cell.startswith("`")}
    fields = {path: _typed(text) for path, text in values.items() if path in set(leaves(_SCHEMA))}
    assert len(fields) > 15
    given: dict[str, Any] = {}
    for path, value in fields.items():
        parent, _, name = path.rpartition(".")
        given.setdefault(parent, {})[name] = value
    assert read_settings(document(**given)) == Settings()


def _typed(text: str) -> Json:
    word = text.strip('"')
    return {"true": True, "false": False}.get(word, int(word) if word.isdecimal() else word)
