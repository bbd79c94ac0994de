"""What an operator is configured with: a Configuration file, flags that override it, and the environment.

Flow: document (`Configuration`, config.lws.x-k8s.io/v1alpha1) + flags -> faults, or Settings. The fields,
their defaults and the flags are listed in docs/operator.md ("Configuration"). A file that the Go controller
takes is taken here; what only this operator has lies under the one field `lws`, which that one refuses.

Guarantees: a field that does not exist is a fault, every fault is reported at once with its path or its flag,
and a file is read without anything done yet.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

import attrs

from lws_core.errors import ErrorType, FieldError
from lws_core.metadata_rules import dns_1035_label_faults, dns_1123_label_faults, dns_1123_subdomain_faults
from lws_core.options import Options
from lws_core.structural import check, not_supported
from lws_core.values import EMPTY, FrozenMap, Json, as_list, dig, freeze_map

from .durations import parse_duration
from .manifests import read_manifests
from .tls import TLS_12_SUITES, TLS_13_SUITES, VERSIONS, TlsSettings

API_VERSION: Final = "config.lws.x-k8s.io/v1alpha1"
KIND: Final = "Configuration"
NAMESPACE_FILE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
VOLCANO: Final = "volcano"
_LEAST_QPS: Final = 0.017  # a request a minute: with less, an operator stands still and does not say why
_LONGEST_LEASE_S: Final = 2**31 - 1  # the record holds an int32
_JITTER: Final = 1.2  # client-go's leader election wants this much room for a retry


class BadConfiguration(ValueError):
    """A configuration that cannot be used. `lines` holds every fault, one a line, for people."""

    def __init__(self, lines: tuple[str, ...]) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


@attrs.frozen
class Address:
    """Where to listen. host "": on every interface."""

    host: str
    port: int


@attrs.frozen
class WebhookSettings:
    """The webhook server. cert_dir holds tls.crt and tls.key; ENABLE_WEBHOOKS=false makes enabled false."""

    enabled: bool = True
    address: Address = Address("", 9443)
    cert_dir: str = "/tmp/k8s-webhook-server/serving-certs"


@attrs.frozen
class LeaderElectionSettings:
    """The lease. Without it (enabled: false) this operator acts at once. resource_namespace: what was asked
    for, and is ignored; "" if nothing."""

    enabled: bool = True
    lease_duration_s: float = 15.0
    renew_deadline_s: float = 10.0
    retry_period_s: float = 2.0
    resource_name: str = "b8b2488c.x-k8s.io"
    resource_namespace: str = ""


@attrs.frozen
class MetricsSettings:
    """Where metrics are served; None: nowhere."""

    address: Address | None = Address("", 8443)


@attrs.frozen
class HealthSettings:
    """Where the probes are served; None: nowhere."""

    address: Address | None = Address("", 8081)
    readiness_path: str = "/readyz"
    liveness_path: str = "/healthz"


@attrs.frozen
class CertificateSettings:
    """Whether the operator makes the webhooks' certificates itself, for which Service, in which Secret."""

    internal: bool = True
    service_name: str = "lws-webhook-service"
    secret_name: str = "lws-webhook-server-cert"


@attrs.frozen
class ClientSettings:
    """How fast requests may be sent to the API server. qps None: as fast as they come."""

    qps: float | None = 500.0
    burst: int = 500


@attrs.frozen
class Settings:
    """Everything that an operator is configured with.

    namespaces: the only ones to work in; none: all. options: what decisions depend on.
    """

    webhook: WebhookSettings = WebhookSettings()
    leader_election: LeaderElectionSettings = LeaderElectionSettings()
    metrics: MetricsSettings = MetricsSettings()
    health: HealthSettings = HealthSettings()
    tls: TlsSettings = attrs.Factory(TlsSettings)
    certificates: CertificateSettings = CertificateSettings()
    client: ClientSettings = ClientSettings()
    namespaces: tuple[str, ...] = ()
    dry_run: bool = False
    options: Options = Options()


@attrs.frozen
class Flag:
    """A flag that overrides a field: its name without dashes, the field's path, what `--help` says.

    `deprecated` flags are those that the Go controller has marked so; they work all the same.
    """

    name: str
    path: str
    help: str
    deprecated: bool = False


FLAGS: Final = (
    Flag("kube-api-qps", "clientConnection.qps", "Requests a second to the API server; negative: no limit."),
    Flag("kube-api-burst", "clientConnection.burst", "Requests to the API server that may be sent at once."),
    Flag("leader-elect", "leaderElection.leaderElect", "Act only while holding the lease."),
    Flag("metrics-bind-address", "metrics.bindAddress", 'Where metrics are served; "0": nowhere.', True),
    Flag(
        "health-probe-bind-address",
        "health.healthProbeBindAddress",
        'Where probes are served; "0": nowhere.',
        True,
    ),
    Flag("leader-elect-lease-duration", "leaderElection.leaseDuration", "How long a lease lasts.", True),
    Flag(
        "leader-elect-renew-deadline",
        "leaderElection.renewDeadline",
        "How long the holder tries to renew before it gives up.",
        True,
    ),
    Flag("leader-elect-retry-period", "leaderElection.retryPeriod", "Time between two tries.", True),
    Flag("leader-elect-resource-lock", "leaderElection.resourceLock", 'Only "leases" exists.', True),
    Flag("leader-elect-resource-name", "leaderElection.resourceName", "The lease's name.", True),
    Flag("namespace", "lws.namespaces", "A namespace to work in; repeatable. Without it: in all."),
    Flag("dry-run", "lws.dryRun", "Decide and tell, but write nothing and take no lease."),
    Flag(
        "recreation-limit", "lws.recreationLimit", "Recreations of a group in a row before it stays failed."
    ),
    Flag(
        "exclusive-placement-across-namespaces",
        "lws.exclusivePlacementAcrossNamespaces",
        "Let groups of different namespaces not share an exclusive topology domain either.",
    ),
    Flag(
        "progress-deadline",
        "lws.progressDeadline",
        "How long a rollout may stand still before it is Stalled.",
    ),
    Flag(
        "broken-after",
        "lws.brokenAfter",
        "How long an old group may load before a rollout goes on without it.",
    ),
)


def load_settings(
    path: str | None,
    overrides: Mapping[str, Json] = EMPTY,
    environment: Mapping[str, str] = os.environ,
) -> Settings:
    """The settings in a file (None: the defaults), with the flags that were given and the environment.

    `overrides` holds a flag's value by its name in FLAGS; for `namespace` a tuple of names. Raises
    BadConfiguration with every fault.
    """
    document = EMPTY
    if path is not None:
        if os.path.isdir(path):
            raise BadConfiguration((f"{path}: is a directory",))
        read = read_manifests([path])
        if read.problems:
            raise BadConfiguration(read.problems)
        if len(read.documents) > 1:
            raise BadConfiguration((f"{path}: holds more than one document",))
        document = read.documents[0].value
    settings = _read(document if path is not None else _bare(), path or "", overrides)
    enabled = environment.get("ENABLE_WEBHOOKS") != "false"
    return attrs.evolve(settings, webhook=attrs.evolve(settings.webhook, enabled=enabled))


def read_settings(document: FrozenMap[Json]) -> Settings:
    """The settings in a Configuration. Raises BadConfiguration with every fault."""
    return _read(document, "", EMPTY)


def operator_namespace(file: Path = NAMESPACE_FILE) -> str:
    """The namespace that the operator runs in: its service account's, or lws-system outside of a cluster."""
    try:
        return file.read_text(encoding="utf-8").strip() or "lws-system"
    except OSError:
        return "lws-system"


# -- what a document may hold


def _map(**properties: Json) -> Json:
    return freeze_map({"type": "object", "properties": properties})


_TEXT: Final = freeze_map({"type": "string"})
_SWITCH: Final = freeze_map({"type": "boolean"})
_TEXTS: Final = freeze_map({"type": "array", "items": {"type": "string"}})
_INT32: Final = freeze_map({"type": "integer", "format": "int32"})

_SCHEMA: Final = freeze_map(
    {
        "type": "object",
        "properties": {
            "apiVersion": _TEXT,
            "kind": _TEXT,
            "webhook": _map(
                port=freeze_map({"type": "integer", "minimum": 0, "maximum": 65535}),
                host=_TEXT,
                certDir=_TEXT,
            ),
            "leaderElection": _map(
                leaderElect=_SWITCH,
                leaseDuration=_TEXT,
                renewDeadline=_TEXT,
                retryPeriod=_TEXT,
                resourceLock=_TEXT,
                resourceName=_TEXT,
                resourceNamespace=_TEXT,
            ),
            "metrics": _map(bindAddress=_TEXT),
            "health": _map(
                healthProbeBindAddress=_TEXT, readinessEndpointName=_TEXT, livenessEndpointName=_TEXT
            ),
            "tls": _map(minVersion=_TEXT, cipherSuites=_TEXTS),
            "internalCertManagement": _map(enable=_SWITCH, webhookServiceName=_TEXT, webhookSecretName=_TEXT),
            "gangSchedulingManagement": _map(schedulerProvider=_TEXT),
            "clientConnection": _map(qps=freeze_map({"type": "number"}), burst=_INT32),
            "lws": _map(
                namespaces=_TEXTS,
                dryRun=_SWITCH,
                recreationLimit=freeze_map({"type": "integer", "format": "int32", "minimum": 1}),
                exclusivePlacementAcrossNamespaces=_SWITCH,
                progressDeadline=_TEXT,
                brokenAfter=_TEXT,
                stuckAfter=_TEXT,
                foreignObjectInterval=_TEXT,
                statusInterval=_TEXT,
            ),
        },
    }
)


def _bare() -> FrozenMap[Json]:
    return FrozenMap({"apiVersion": API_VERSION, "kind": KIND})


def _read(document: FrozenMap[Json], source: str, overrides: Mapping[str, Json]) -> Settings:
    flags = {flag.path: flag.name for flag in FLAGS if flag.name in overrides}
    unknown = sorted(set(overrides) - set(flags.values()))
    assert not unknown, f"no such flags: {unknown}"
    merged = document
    for path, name in flags.items():
        merged = _with(merged, path.split("."), overrides[name])
    reader = _Reader(merged)
    settings = reader.settings()
    typed = check(merged, _SCHEMA)
    hidden = [fault for fault in check(document, _SCHEMA) if fault not in typed and fault.path not in flags]
    faults = [*typed, *hidden]
    faults += [fault for fault in reader.faults if not _is_told(fault.path, faults)]
    if faults:
        raise BadConfiguration(tuple([_line(fault, source, flags) for fault in faults]))
    return settings


def _is_told(path: str, faults: Iterable[FieldError]) -> bool:
    """Whether one of the faults is about the field at `path`, or about one that it is a part of."""
    return any(
        path == fault.path or path.startswith((f"{fault.path}.", f"{fault.path}[")) for fault in faults
    )


def _line(fault: FieldError, source: str, flags: Mapping[str, str]) -> str:
    field = fault.path.partition("[")[0]
    if field in flags:
        return f"--{flags[field]}: {str(fault).removeprefix(fault.path).removeprefix(': ')}"
    return f"{source}: {fault}" if source else str(fault)


def _with(document: FrozenMap[Json], path: list[str], value: Json) -> FrozenMap[Json]:
    if len(path) == 1:
        return document.with_(path[0], value)
    inner = document.get(path[0])
    return document.with_(path[0], _with(inner if isinstance(inner, FrozenMap) else EMPTY, path[1:], value))


def _is_host(text: str) -> bool:
    """Whether a host may be called so: to look up another is an error of Python's own."""
    try:
        text.encode("idna")
    except UnicodeError:
        return False
    return "\0" not in text


# -- from a document to settings


@attrs.define
class _Reader:
    """Reads fields one by one and collects faults. What has a fault, or is left out, has its default."""

    document: FrozenMap[Json]
    faults: list[FieldError] = attrs.Factory(list)

    def settings(self) -> Settings:
        self._check_kind()
        return Settings(
            webhook=self._webhook(),
            leader_election=self._leader_election(),
            metrics=MetricsSettings(self._port("metrics.bindAddress", ":8443")),
            health=self._health(),
            tls=self._tls(),
            certificates=self._certificates(),
            client=self._client(),
            namespaces=tuple(dict.fromkeys(self._namespaces())),
            dry_run=self._switch("lws.dryRun", False),
            options=self._options(),
        )

    def _options(self) -> Options:
        default = Options()
        return Options(
            gang_scheduling=self._gang_scheduling(),
            exclusive_across_namespaces=self._switch("lws.exclusivePlacementAcrossNamespaces", False),
            recreation_limit=self._count("lws.recreationLimit"),
            broken_after_s=self._duration_s("lws.brokenAfter", default.broken_after_s),
            progress_deadline_s=self._duration_s("lws.progressDeadline", default.progress_deadline_s),
            stuck_after_s=self._duration_s("lws.stuckAfter", default.stuck_after_s),
            foreign_object_interval_s=self._duration_s(
                "lws.foreignObjectInterval", default.foreign_object_interval_s, least="1s"
            ),
            status_interval_s=self._duration_s("lws.statusInterval", default.status_interval_s),
        )

    def _check_kind(self) -> None:
        for field, wanted in (("apiVersion", API_VERSION), ("kind", KIND)):
            found = self._get(field)
            if found is None:
                self._fault(field, "Required", f'must be "{wanted}"')
            elif isinstance(found, str) and found != wanted:
                self.faults.append(not_supported(field, found, (wanted,)))

    def _webhook(self) -> WebhookSettings:
        port = self._count("webhook.port") or 9443
        cert_dir = self._text("webhook.certDir", WebhookSettings().cert_dir)
        host = self._text("webhook.host", "")
        if not _is_host(host):
            self._fault("webhook.host", "Invalid", "must be a name or an address of a host", host)
        return WebhookSettings(address=Address(host, port), cert_dir=cert_dir)

    def _leader_election(self) -> LeaderElectionSettings:
        lock = self._text("leaderElection.resourceLock", "leases")
        if lock != "leases":
            self.faults.append(not_supported("leaderElection.resourceLock", lock, ("leases",)))
        before = len(self.faults)
        found = LeaderElectionSettings(
            enabled=self._switch("leaderElection.leaderElect", True),
            lease_duration_s=self._duration_s("leaderElection.leaseDuration", 15.0),
            renew_deadline_s=self._duration_s("leaderElection.renewDeadline", 10.0),
            retry_period_s=self._duration_s("leaderElection.retryPeriod", 2.0, least="100ms"),
            resource_name=self._text("leaderElection.resourceName", LeaderElectionSettings().resource_name),
            resource_namespace=self._text("leaderElection.resourceNamespace", ""),
        )
        for fault in dns_1123_subdomain_faults(found.resource_name):
            self._fault("leaderElection.resourceName", "Invalid", fault, found.resource_name)
        if len(self.faults) > before or not found.enabled:
            return found
        if found.lease_duration_s <= found.renew_deadline_s:
            detail = "must be greater than renewDeadline"
            self._fault("leaderElection.leaseDuration", "Invalid", detail, f"{found.lease_duration_s:g}s")
        if found.lease_duration_s > _LONGEST_LEASE_S:
            detail = f"must be less than or equal to {_LONGEST_LEASE_S}s"
            self._fault("leaderElection.leaseDuration", "Invalid", detail, f"{found.lease_duration_s:.0f}s")
        if found.renew_deadline_s <= _JITTER * found.retry_period_s:
            detail = f"must be greater than {_JITTER} times retryPeriod"
            self._fault("leaderElection.renewDeadline", "Invalid", detail, f"{found.renew_deadline_s:g}s")
        return found

    def _health(self) -> HealthSettings:
        found = HealthSettings(
            self._port("health.healthProbeBindAddress", ":8081"),
            self._endpoint("health.readinessEndpointName", "/readyz"),
            self._endpoint("health.livenessEndpointName", "/healthz"),
        )
        if found.readiness_path == found.liveness_path:  # a replica that waits would be killed
            detail = "must not be readinessEndpointName"
            self._fault("health.livenessEndpointName", "Invalid", detail, found.liveness_path)
        return found

    def _tls(self) -> TlsSettings:
        version = self._text("tls.minVersion", "")
        if version in ("VersionTLS10", "VersionTLS11"):
            self._fault(
                "tls.minVersion",
                "Invalid",
                "invalid minVersion. Please use VersionTLS12 or VersionTLS13",
                version,
            )
        elif version and version not in VERSIONS:
            self.faults.append(not_supported("tls.minVersion", version, tuple(VERSIONS)))
        suites = self._texts("tls.cipherSuites")
        if suites and version == "VersionTLS13":
            detail = "cipher suites may not be specified when minVersion is 'VersionTLS13'"
            self._fault("tls.cipherSuites", "Invalid", detail, suites)
        for index, suite in enumerate(suites):
            if suite not in TLS_12_SUITES and suite not in TLS_13_SUITES:
                detail = "is no cipher suite that Go and OpenSSL both have"
                self._fault(f"tls.cipherSuites[{index}]", "Invalid", detail, suite)
        return TlsSettings(version, suites)

    def _certificates(self) -> CertificateSettings:
        default = CertificateSettings()
        found = CertificateSettings(
            self._switch("internalCertManagement.enable", True),
            self._text("internalCertManagement.webhookServiceName", default.service_name),
            self._text("internalCertManagement.webhookSecretName", default.secret_name),
        )
        if found.internal:
            for fault in dns_1035_label_faults(found.service_name):
                self._fault("internalCertManagement.webhookServiceName", "Invalid", fault, found.service_name)
            for fault in dns_1123_subdomain_faults(found.secret_name):
                self._fault("internalCertManagement.webhookSecretName", "Invalid", fault, found.secret_name)
        return found

    def _client(self) -> ClientSettings:
        """As client-go reads them: no number is 500, 0 is its own default, a negative rate is no limit."""
        rate, burst = self._get("clientConnection.qps"), self._get("clientConnection.burst")
        qps = float(rate) if isinstance(rate, int | float) else 500.0
        if not math.isfinite(qps):
            self._fault("clientConnection.qps", "Invalid", "must be a finite number", str(rate))
        elif 0 < qps < _LEAST_QPS:
            detail = f"must be greater than or equal to {_LEAST_QPS}, a request a minute; negative: no limit"
            self._fault("clientConnection.qps", "Invalid", detail, qps)
        most = int(burst) if isinstance(burst, int | float) else 500
        if most < 0:
            self._fault("clientConnection.burst", "Invalid", "must be greater than or equal to 0", most)
        return ClientSettings(None if qps < 0 else qps or 5.0, most or 10)

    def _gang_scheduling(self) -> bool:
        if self._get("gangSchedulingManagement") is None:
            return False
        path = "gangSchedulingManagement.schedulerProvider"
        provider = self._text(path, "")
        if not provider:
            self._fault(path, "Required", "must be set when gang scheduling is enabled")
        elif provider != VOLCANO:
            self.faults.append(not_supported(path, provider, (VOLCANO,)))
        return True

    def _namespaces(self) -> Iterator[str]:
        for index, namespace in enumerate(self._texts("lws.namespaces")):
            for fault in dns_1123_label_faults(namespace):
                self._fault(f"lws.namespaces[{index}]", "Invalid", fault, namespace)
            yield namespace

    def _get(self, path: str) -> Json:
        return dig(self.document, *path.split("."))

    def _fault(self, path: str, kind: ErrorType, detail: str, value: Json = None) -> None:
        self.faults.append(FieldError(path, kind, detail, value))

    def _text(self, path: str, default: str) -> str:
        """A text; an empty one counts as left out, as it does in Go."""
        found = self._get(path)
        return found if isinstance(found, str) and found else default

    def _texts(self, path: str) -> tuple[str, ...]:
        return tuple([text for text in as_list(self._get(path)) if isinstance(text, str)])

    def _switch(self, path: str, default: bool) -> bool:
        found = self._get(path)
        return found if isinstance(found, bool) else default

    def _count(self, path: str) -> int | None:
        found = self._get(path)
        return int(found) if isinstance(found, int | float) else None

    def _duration_s(self, path: str, default_s: float, least: str = "") -> float:
        text = self._text(path, "")
        if not text:
            return default_s
        try:
            found_s = parse_duration(text)
        except ValueError as problem:
            self._fault(path, "Invalid", str(problem), text)
            return default_s
        if found_s <= 0:
            self._fault(path, "Invalid", "must be greater than 0", text)
            return default_s
        if least and found_s < parse_duration(least):  # what is done so often leaves time for nothing else
            self._fault(path, "Invalid", f"must be greater than or equal to {least}", text)
        return found_s

    def _port(self, path: str, default: str) -> Address | None:
        """Where to listen; in a dry run nowhere by default, as it runs beside other things."""
        return self._address(path, "0" if self._switch("lws.dryRun", False) else default)

    def _address(self, path: str, default: str) -> Address | None:
        text = self._text(path, default)
        if text == "0":
            return None
        found = re.fullmatch(r"(?:\[([0-9A-Fa-f:.%\w]+)\]|([^:\[\]/\s]*)):([0-9]{1,5})", text, re.ASCII)
        if found is None or int(found[3]) > 65535 or not _is_host(found[2] or ""):
            self._fault(
                path, "Invalid", 'must be an address such as ":8443" or "127.0.0.1:8443", or "0"', text
            )
            return None
        return Address(found[1] or found[2] or "", int(found[3]))

    def _endpoint(self, path: str, default: str) -> str:
        text = self._text(path, default)
        if not re.fullmatch(r"/[\w.~/-]*", text, re.ASCII):
            self._fault(path, "Invalid", 'must be a path such as "/readyz"', text)
        return text
