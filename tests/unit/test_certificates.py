"""The certificates of the webhooks: when one is renewed, and how replicas keep them in a cluster.

Names and times are made up; keys are real, so that OpenSSL itself judges what is made.
"""

from __future__ import annotations

import asyncio
import base64
import datetime
import json
import os
import ssl
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from lws_runtime.kube.client import Answer
from lws_runtime.webhook.certificates import (
    AHEAD_S,
    AUTHORITY_S,
    DAY_S,
    SERVER_S,
    SETTLE_S,
    Decision,
    Material,
    carry_out,
    decide,
    dns_names,
    self_signed,
)
from lws_runtime.webhook.keeper import (
    CONFIGURATIONS,
    CertificateKeeper,
    NotYet,
    bundles_in,
    material_in,
    put_into,
    with_bundle,
    with_material,
)
from lws_runtime.webhook.server import fingerprint

NO_PARAMS: Mapping[str, str] = {}
NOW_S = 1_800_000_000.0
NAMES = dns_names("lws-webhook-service", "lws-system")
EVERYTHING = Decision("everything")


def made(now_s: float = NOW_S) -> Material:
    return carry_out(EVERYTHING, None, NAMES, trusted=b"", now_s=now_s)


@pytest.fixture(scope="module", autouse=True)
def _short_keys() -> Iterator[None]:
    """Keys that are quick to make; OpenSSL serves none so short."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lws_runtime.webhook.certificates._KEY_BITS", 1024)
        yield


@pytest.fixture
def full_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lws_runtime.webhook.certificates._KEY_BITS", 2048)


@pytest.fixture(scope="module")
def fresh() -> Material:
    return made()


@pytest.fixture(scope="module")
def other() -> Material:
    return made()


def next_of(material: Material, now_s: float, *, injected: bool = True) -> tuple[str, Material]:
    decision = decide(material, NAMES, injected=injected, now_s=now_s)
    return decision.action, carry_out(decision, material, NAMES, trusted=b"", now_s=now_s)


def authorities(material: Material) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(material.authorities)


def shake_hands(material: Material, tmp_path: Path, name: str, bundle: bytes | None = None) -> None:
    """Raises ssl.SSLError unless a client that knows the bundle trusts the certificate."""
    assert put_into(tmp_path, material)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tmp_path / "tls.crt", tmp_path / "tls.key")
    client = ssl.create_default_context(cadata=(bundle or material.authorities).decode())
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    one = server.wrap_bio(to_server, to_client, server_side=True)
    two = client.wrap_bio(to_client, to_server, server_hostname=name)
    for _ in range(4):
        for end in (two, one):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue


# -- what is made


@pytest.mark.usefixtures("full_keys")
def test_certificate_must_be_trusted_by_who_knows_the_bundle(tmp_path: Path) -> None:
    now = made(now_s=time.time())
    for name in NAMES:
        shake_hands(now, tmp_path, name)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(now, tmp_path, "lws-webhook-service.other.svc")
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(now, tmp_path, NAMES[0], bundle=made(now_s=time.time()).authorities)


def test_authority_must_be_what_the_other_controller_makes(fresh: Material) -> None:
    [authority] = authorities(fresh)
    assert authority.subject.rfc4514_string() == "O=lws,CN=lws-ca"
    assert authority.not_valid_after_utc.timestamp() == NOW_S + AUTHORITY_S
    server = x509.load_pem_x509_certificate(fresh.certificate)
    assert server.not_valid_after_utc.timestamp() == NOW_S + SERVER_S
    for key in (fresh.key, fresh.authority_key):
        assert key.startswith(b"-----BEGIN RSA PRIVATE KEY-----")


def test_material_never_shows_its_keys(fresh: Material) -> None:
    assert "PRIVATE" not in repr(fresh)


def test_self_signed_certificate_must_fit_its_key() -> None:
    certificate, key = self_signed("localhost", now_s=NOW_S)
    found = x509.load_pem_x509_certificate(certificate)
    assert load_pem_private_key(key, None).public_key() == found.public_key()


# -- what is needed


def test_nothing_must_be_made_once_all_is_well(fresh: Material) -> None:
    assert decide(fresh, NAMES, injected=True, now_s=NOW_S) == Decision("none")


def test_everything_must_be_made_where_there_is_nothing() -> None:
    assert decide(None, NAMES, injected=False, now_s=NOW_S).action == "everything"


@pytest.mark.parametrize(
    ("field", "value"),
    [("authorities", b"junk"), ("authority_key", b"junk"), ("certificate", b"junk"), ("key", b"junk")],
)
def test_unreadable_material_must_be_replaced(fresh: Material, field: str, value: bytes) -> None:
    broken = attrs.evolve(fresh, **{field: value})
    action, mended = next_of(broken, NOW_S)
    expected = {"authorities": "everything", "authority_key": "authority"}
    assert action == expected.get(field, "server")
    while action != "none":
        action, mended = next_of(mended, NOW_S + 3 * SETTLE_S)
    assert decide(mended, NAMES, injected=True, now_s=NOW_S + 3 * SETTLE_S).action == "none"


def test_keys_of_another_pair_must_be_noticed(fresh: Material, other: Material) -> None:
    swapped = attrs.evolve(fresh, key=other.key)
    assert decide(swapped, NAMES, injected=True, now_s=NOW_S).action == "server"
    swapped = attrs.evolve(fresh, authority_key=other.authority_key)
    assert decide(swapped, NAMES, injected=True, now_s=NOW_S).action == "authority"
    swapped = attrs.evolve(fresh, certificate=other.certificate, key=other.key)
    assert decide(swapped, NAMES, injected=False, now_s=NOW_S).action == "server"


def test_server_certificate_must_be_renewed_ninety_days_ahead(fresh: Material) -> None:
    due_s = NOW_S + SERVER_S - AHEAD_S
    assert next_of(fresh, due_s - 1)[0] == "none"
    action, renewed = next_of(fresh, due_s + 1)
    assert (action, renewed.authorities) == ("server", fresh.authorities)
    assert decide(renewed, NAMES, injected=True, now_s=due_s + 1).action == "none"


def test_server_certificate_must_be_renewed_at_once_when_it_is_of_no_use(fresh: Material) -> None:
    assert next_of(fresh, NOW_S + SERVER_S + 1, injected=False)[0] == "server"
    elsewhere = dns_names("lws-webhook-service", "other")
    assert decide(fresh, elsewhere, injected=False, now_s=NOW_S).action == "server"


def test_certificate_without_the_second_name_must_do(fresh: Material) -> None:
    only = carry_out(EVERYTHING, None, NAMES[:1], trusted=b"", now_s=NOW_S)
    assert decide(only, NAMES, injected=True, now_s=NOW_S).action == "none"


@pytest.mark.usefixtures("full_keys")
def test_authority_must_be_replaced_in_steps_that_are_each_trusted(tmp_path: Path) -> None:
    now_s = time.time()
    old = carry_out(EVERYTHING, None, NAMES, trusted=b"", now_s=now_s - AUTHORITY_S + AHEAD_S + DAY_S)
    old = carry_out(Decision("server"), old, NAMES, trusted=b"", now_s=now_s)
    assert next_of(old, now_s)[0] == "none"
    due_s = now_s + 2 * DAY_S
    action, first = next_of(old, due_s)
    assert action == "authority"
    assert [first.certificate, first.key] == [old.certificate, old.key]
    assert authorities(first)[1:] == authorities(old)
    shake_hands(first, tmp_path, NAMES[0])
    # Not before the API server knows the new authority is anything signed by it.
    assert next_of(first, due_s, injected=False) == ("none", first)
    action, second = next_of(first, due_s)
    assert (action, second.authorities) == ("server", first.authorities)
    # A replica that still serves the old certificate is trusted for an hour yet.
    assert next_of(second, due_s + SETTLE_S - 1)[0] == "none"
    action, third = next_of(second, due_s + SETTLE_S + 1)
    assert (action, authorities(third)) == ("trim", authorities(first)[:1])
    assert next_of(third, due_s + SETTLE_S + 2)[0] == "none"


def test_authority_that_ended_must_not_stay_in_the_bundle(fresh: Material) -> None:
    action, renewed = next_of(fresh, NOW_S + AUTHORITY_S + 1)
    assert action == "everything"
    assert authorities(fresh)[0] not in authorities(renewed)


def test_new_keys_must_leave_what_is_trusted_in_the_bundle(fresh: Material, other: Material) -> None:
    renewed = carry_out(EVERYTHING, None, NAMES, trusted=fresh.authorities * 2 + b"\n", now_s=NOW_S)
    assert authorities(renewed)[1:] == authorities(fresh)
    assert decide(renewed, NAMES, injected=True, now_s=NOW_S).action == "none"
    assert decide(renewed, NAMES, injected=True, now_s=NOW_S + SETTLE_S).action == "trim"


def other_keys(now_s: float) -> Material:
    """What many other tools make: an authority and a certificate with keys on an elliptic curve."""
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    made = []
    for common, own, is_authority in (("my-ca", authority_key, True), ("webhook", key, False)):
        names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]) for name in (common, "my-ca")]
        builder = (
            x509.CertificateBuilder(*reversed(names), own.public_key(), x509.random_serial_number())
            .not_valid_before(datetime.datetime.fromtimestamp(now_s - DAY_S, datetime.UTC))
            .not_valid_after(datetime.datetime.fromtimestamp(now_s + SERVER_S, datetime.UTC))
            .add_extension(x509.BasicConstraints(is_authority, None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAMES[0])]), critical=False)
        )
        made.append(builder.sign(authority_key, hashes.SHA256()).public_bytes(Encoding.PEM))
    pems = [
        one.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
        for one in (authority_key, key)
    ]
    return Material(made[0], pems[0], made[1], pems[1])


@pytest.mark.usefixtures("full_keys")
def test_certificates_that_are_not_valid_yet_must_be_made_anew(tmp_path: Path) -> None:
    """A replica whose clock is ahead made them, and no API server takes them."""
    now_s = time.time()
    future = made(now_s=now_s + 2 * DAY_S)
    with pytest.raises(ssl.SSLCertVerificationError, match="not yet valid"):
        shake_hands(future, tmp_path, NAMES[0])
    action, mended = next_of(future, now_s, injected=False)
    assert action == "everything"
    shake_hands(mended, tmp_path, NAMES[0])
    # The replica whose clock is ahead finds nothing wrong with those: the two do not take turns.
    assert next_of(mended, now_s + 2 * DAY_S)[0] in ("none", "trim")


def test_certificate_alone_that_is_not_valid_yet_must_be_made_anew(fresh: Material) -> None:
    future = carry_out(Decision("server"), fresh, NAMES, trusted=b"", now_s=NOW_S + 2 * DAY_S)
    assert next_of(future, NOW_S, injected=False)[0] == "server"


def test_authority_alone_that_is_not_valid_yet_must_be_replaced_in_steps(fresh: Material) -> None:
    future = carry_out(Decision("authority"), fresh, NAMES, trusted=b"", now_s=NOW_S + 2 * DAY_S)
    action, first = next_of(future, NOW_S)
    assert (action, first.certificate) == ("authority", fresh.certificate)
    action, second = next_of(first, NOW_S)
    assert action == "server"
    assert next_of(second, NOW_S)[0] == "none"


def test_clock_that_is_behind_a_little_must_not_cost_a_certificate(fresh: Material) -> None:
    """They are back-dated by an hour, and what begins within minutes is waited for."""
    assert next_of(fresh, NOW_S - 3600 - 240)[0] == "none"
    assert next_of(fresh, NOW_S - 3600 - 360)[0] == "everything"


@pytest.mark.usefixtures("full_keys")
def test_authority_with_a_key_that_is_not_rsa_must_be_replaced_in_steps(tmp_path: Path) -> None:
    now_s = time.time()
    found = other_keys(now_s)
    shake_hands(found, tmp_path, NAMES[0])
    action, first = next_of(found, now_s)
    assert action == "authority"
    assert authorities(first)[1:] == authorities(found)
    shake_hands(first, tmp_path, NAMES[0])
    action, second = next_of(first, now_s)
    assert action == "server"
    shake_hands(second, tmp_path, NAMES[0])
    assert next_of(second, now_s + SETTLE_S + 1)[0] == "trim"
    # Where its certificate is of no use either, all of it is made anew.
    assert next_of(found, now_s + SERVER_S + DAY_S)[0] == "everything"


# -- forms


def test_secret_must_give_back_what_was_put_into_it(fresh: Material) -> None:
    secret = {"metadata": {"labels": {"a": "b"}}, "data": {"mine": "eA=="}}
    held = with_material(secret, fresh)
    assert material_in(held) == fresh
    assert held["metadata"] == secret["metadata"]
    assert held["data"]["mine"] == "eA=="


@pytest.mark.parametrize("data", [None, {}, [], {"ca.crt": "!"}, {"tls.crt": 5}])
def test_secret_without_certificates_must_hold_none(data: object) -> None:
    assert material_in({"data": data}) is None


def test_bundle_must_be_put_into_every_webhook_and_only_where_it_differs() -> None:
    configuration: dict[str, Any] = {
        "metadata": {"resourceVersion": "7"},
        "webhooks": [{"name": "a", "clientConfig": {"service": {"name": "s"}}}, {"name": "b"}],
    }
    wanted = with_bundle(configuration, b"pem")
    assert wanted is not None
    assert wanted["metadata"] == configuration["metadata"]
    assert wanted["webhooks"][0]["clientConfig"]["service"] == {"name": "s"}
    assert bundles_in(wanted) == [b"pem", b"pem"]
    assert with_bundle(wanted, b"pem") is None
    assert "caBundle" not in configuration["webhooks"][0]["clientConfig"]


# -- the folder


def test_folder_must_hold_the_pair_and_keep_the_key_private(fresh: Material, tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    assert put_into(folder, fresh)
    assert (folder / "tls.crt").read_bytes() == fresh.certificate
    assert (folder / "tls.key").read_bytes() == fresh.key
    assert stat.S_IMODE((folder / "tls.key").stat().st_mode) == 0o600
    assert sorted(os.listdir(folder)) == ["tls.crt", "tls.key"]
    before = (folder / "tls.crt").stat().st_mtime_ns
    assert put_into(folder, fresh)
    assert (folder / "tls.crt").stat().st_mtime_ns == before


# -- replicas in a cluster


@attrs.define
class Cluster:
    """The Secret and the configurations, with the API server's rules for writes."""

    objects: dict[str, dict[str, Any]]
    may_create: bool = True
    writes: list[str] = attrs.Factory(list)
    down: bool = False
    page: object = None
    paged: tuple[str, ...] = ()
    version: int = 0

    async def request(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        content_type: str = "application/json",
        params: Mapping[str, str] = NO_PARAMS,
        timeout_s: float = 10.0,
    ) -> Any:
        await asyncio.sleep(0)
        if self.down:
            return Answer(0, b"no route")
        if method in self.paged:
            return Answer(200, json.dumps(self.page).encode())
        if method == "GET":
            found = self.objects.get(path)
            return Answer(404) if found is None else Answer(200, json.dumps(found).encode())
        assert body is not None
        value = json.loads(body)
        if method == "POST":
            path = f"{path}/{value['metadata']['name']}"
            if not self.may_create:
                return Answer(403, b'{"message": "secrets is forbidden"}')
            if path in self.objects:
                return Answer(409)
        elif value["metadata"]["resourceVersion"] != self.objects[path]["metadata"]["resourceVersion"]:
            return Answer(409)
        self.put(path, value)
        self.writes.append(f"{method} {path.rpartition('/')[2]}")
        return Answer(200, json.dumps(value).encode())

    def put(self, path: str, value: dict[str, Any]) -> None:
        self.version += 1
        value["metadata"]["resourceVersion"] = str(self.version)
        self.objects[path] = value

    @property
    def material(self) -> Material:
        found = material_in(self.objects[SECRET])
        assert found is not None
        return found

    @property
    def trusted(self) -> list[bytes]:
        return [bundle for path in CONFIGURATIONS for bundle in bundles_in(self.objects[path])]


SECRET = "/api/v1/namespaces/lws-system/secrets/lws-webhook-server-cert"


@attrs.define
class Clock:
    now_s: float = NOW_S

    def __call__(self) -> float:
        return self.now_s


def cluster(*, secret: bool = False) -> Cluster:
    made = Cluster({})
    for path in CONFIGURATIONS:
        kind = "MutatingWebhookConfiguration" if "mutating" in path else "ValidatingWebhookConfiguration"
        metadata, webhooks = {"name": path.rpartition("/")[2]}, [{"clientConfig": {"caBundle": "Cg=="}}]
        made.put(path, {"kind": kind, "metadata": metadata, "webhooks": webhooks})
    if secret:
        made.put(SECRET, {"kind": "Secret", "metadata": {"name": "lws-webhook-server-cert"}})
    return made


def keeper(api: Cluster, folder: Path, clock: Clock) -> CertificateKeeper:
    return CertificateKeeper(
        api, "lws-webhook-service", "lws-webhook-server-cert", "lws-system", folder, clock
    )


async def looks(one: CertificateKeeper, count: int = 4) -> None:
    """Look until nothing is left to do, as `run` does but without waiting."""
    for _ in range(count):
        try:
            await one.look()
        except NotYet as problem:
            one.problem = str(problem)


@pytest.mark.parametrize("secret", [False, True])
def test_keeper_must_make_and_inject_and_then_write_nothing(tmp_path: Path, secret: bool) -> None:
    api = cluster(secret=secret)
    one = keeper(api, tmp_path, Clock())
    asyncio.run(looks(one))
    assert api.writes[0] == f"{'PUT' if secret else 'POST'} lws-webhook-server-cert"
    assert len(api.writes) == 3
    assert set(api.trusted) == {api.material.authorities}
    assert (tmp_path / "tls.crt").read_bytes() == api.material.certificate
    assert one.certificate == fingerprint(api.material.certificate)
    assert one.in_place
    assert one.problem == ""


def test_replicas_must_agree_on_one_certificate(tmp_path: Path) -> None:
    api = cluster(secret=True)
    replicas = [keeper(api, tmp_path / str(index), Clock()) for index in range(3)]

    async def start() -> None:
        await asyncio.gather(*(looks(one) for one in replicas))

    asyncio.run(start())
    held = {(tmp_path / str(index) / "tls.crt").read_bytes() for index in range(3)}
    assert held == {api.material.certificate}
    assert set(api.trusted) == {api.material.authorities}
    assert sum("secret" not in write and "cert" in write for write in api.writes) == 1


def test_replicas_must_serve_what_is_trusted_throughout_a_rotation(tmp_path: Path) -> None:
    api, clock = cluster(), Clock()
    replicas = [keeper(api, tmp_path / str(index), clock) for index in range(2)]
    for one in replicas:
        asyncio.run(looks(one))
    first = api.material
    clock.now_s = NOW_S + AUTHORITY_S - AHEAD_S + DAY_S
    actions = []
    for turn in range(12):
        asyncio.run(looks(replicas[turn % 2], 1))
        clock.now_s += SETTLE_S / 4
        for index in range(2):
            served = (tmp_path / str(index) / "tls.crt").read_bytes()
            for bundle in api.trusted:
                assert is_trusted(served, bundle) or served == first.certificate
        actions.append(len(authorities(api.material)))
    assert api.material.authority_key != first.authority_key
    assert actions[-1] == 1
    assert api.material.certificate != first.certificate


def is_trusted(served: bytes, bundle: bytes) -> bool:
    certificate = x509.load_pem_x509_certificate(served)
    for authority in x509.load_pem_x509_certificates(bundle):
        try:
            certificate.verify_directly_issued_by(authority)
        except (ValueError, InvalidSignature):
            continue
        return True
    return False


def test_replica_that_lost_a_race_must_read_again_at_once(tmp_path: Path) -> None:
    async def race(first: CertificateKeeper, second: CertificateKeeper) -> list[BaseException | float]:
        return await asyncio.gather(first.look(), second.look(), return_exceptions=True)

    api = cluster(secret=True)
    results = asyncio.run(race(*(keeper(api, tmp_path / name, Clock()) for name in "ab")))
    [lost] = [result for result in results if isinstance(result, NotYet)]
    assert lost.again
    # Whoever lost has put nothing into its folder.
    held = [path.read_bytes() for path in tmp_path.glob("*/tls.crt")]
    assert held == [api.material.certificate]


def test_deleted_secret_must_be_made_anew_and_the_old_certificate_stay_trusted(tmp_path: Path) -> None:
    api, clock = cluster(), Clock()
    one, two = (keeper(api, tmp_path / name, clock) for name in "ab")
    for each in (one, two):
        asyncio.run(looks(each))
    del api.objects[SECRET]
    asyncio.run(looks(one))
    assert (tmp_path / "a" / "tls.crt").read_bytes() == api.material.certificate
    assert (tmp_path / "b" / "tls.crt").read_bytes() != api.material.certificate
    for bundle in api.trusted:
        assert is_trusted((tmp_path / "b" / "tls.crt").read_bytes(), bundle)
    clock.now_s += SETTLE_S + 1
    asyncio.run(looks(two))
    assert len(authorities(api.material)) == 1


def test_keeper_must_heal_a_bundle_that_was_overwritten(tmp_path: Path) -> None:
    api = cluster()
    one = keeper(api, tmp_path, Clock())
    asyncio.run(looks(one))
    api.objects[CONFIGURATIONS[0]]["webhooks"][0]["clientConfig"]["caBundle"] = "Cg=="
    asyncio.run(looks(one))
    assert set(api.trusted) == {api.material.authorities}


def test_keeper_must_say_what_stands_in_its_way(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    api = cluster()
    api.may_create = False
    one = keeper(api, tmp_path, Clock())
    asyncio.run(looks(one, 1))
    assert "403 secrets is forbidden" in one.problem
    assert not one.in_place
    api.down = True
    asyncio.run(looks(one, 1))
    assert "no route" in one.problem
    assert "PRIVATE KEY" not in caplog.text


@pytest.mark.parametrize("paged", [("GET", "POST", "PUT"), ("GET",), ("POST",), ("PUT",)], ids=" ".join)
@pytest.mark.parametrize(
    "page",
    [
        {"status": "maintenance"},
        {"kind": "Secret", "metadata": {"name": "lws-webhook-server-cert"}},
        {"kind": "Secret", "metadata": {"name": "other", "resourceVersion": "1"}},
        {"kind": "Status", "metadata": {"name": "lws-webhook-server-cert", "resourceVersion": "1"}},
    ],
    ids=["page", "no version", "another", "status"],
)
def test_page_of_a_gateway_never_is_believed(tmp_path: Path, paged: tuple[str, ...], page: object) -> None:
    api = cluster(secret="POST" not in paged)
    api.page, api.paged = page, paged
    one = keeper(api, tmp_path, Clock())
    asyncio.run(looks(one))
    assert not one.in_place
    assert one.problem.endswith("the answer is no such object")
    assert not (tmp_path / "tls.crt").exists()
    api.paged = ()
    asyncio.run(looks(one))
    assert (one.in_place, one.problem) == (True, "")
    assert (tmp_path / "tls.crt").read_bytes() == api.material.certificate


def test_page_of_a_gateway_never_replaces_what_is_served(tmp_path: Path) -> None:
    api = cluster()
    one = keeper(api, tmp_path, Clock())
    asyncio.run(looks(one))
    api.page, api.paged = {"status": "maintenance"}, ("GET", "POST", "PUT")
    asyncio.run(looks(one))
    assert (tmp_path / "tls.crt").read_bytes() == api.material.certificate
    assert one.certificate == fingerprint(api.material.certificate)


def test_keeper_must_do_without_configurations(tmp_path: Path) -> None:
    api = Cluster({})
    one = keeper(api, tmp_path, Clock())
    asyncio.run(looks(one))
    assert api.writes == ["POST lws-webhook-server-cert"]
    assert one.in_place


def test_configuration_that_is_not_there_must_be_told_once_each_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    api = cluster()
    one = keeper(api, tmp_path, Clock())

    def told() -> list[str]:
        asyncio.run(looks(one))
        found = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
        caplog.clear()
        return [line.rpartition("/")[2] for line in found]

    names = ["lws-mutating-webhook-configuration", "lws-validating-webhook-configuration"]
    assert told() == []
    first = api.objects.pop(CONFIGURATIONS[0])
    assert told() == names[:1]
    del api.objects[CONFIGURATIONS[1]]
    assert told() == names[1:]
    assert one.problem == ""
    api.put(CONFIGURATIONS[0], first)
    assert told() == []
    del api.objects[CONFIGURATIONS[0]]
    assert told() == names[:1]


def test_readiness_must_wait_for_the_right_certificate_once(tmp_path: Path) -> None:
    api = cluster()
    one = keeper(api, tmp_path, Clock())
    assert not one.is_ready("something")
    asyncio.run(looks(one))
    assert not one.is_ready("something")
    assert not one.is_ready("")
    assert one.is_ready(one.certificate)
    assert one.is_ready("something")
    assert not one.is_ready("")


def run_the_loop(
    one: CertificateKeeper, monkeypatch: pytest.MonkeyPatch, wait: Callable[[float], None]
) -> None:
    """Run a keeper until `wait`, which is told of each pause in place of it, cancels it."""

    async def sleep(seconds: float) -> None:
        if seconds:  # the cluster's are 0
            wait(seconds)

    async def run() -> None:
        with pytest.raises(asyncio.CancelledError):
            await one.run()

    monkeypatch.setattr("lws_runtime.webhook.keeper.asyncio.sleep", sleep)
    asyncio.run(run())


def test_loop_must_go_on_after_failures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    api = cluster()
    api.down = True
    one = keeper(api, tmp_path, Clock())
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        api.down = len(waits) < 6
        if len(waits) == 8:
            raise asyncio.CancelledError

    run_the_loop(one, monkeypatch, wait)
    assert waits[:6] == [2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    assert waits[7] == 60.0
    assert one.in_place


def test_loop_must_go_on_after_a_bug_and_tell_it_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody awaits the loop, so that what ends it would not be told, and nothing would be renewed."""
    api = cluster()
    one = keeper(api, tmp_path, Clock())
    waits: list[float] = []
    problems: list[str] = []

    def fail(*_: object, **__: object) -> Decision:
        raise AssertionError

    def wait(seconds: float) -> None:
        waits.append(seconds)
        problems.append(one.problem)
        if len(waits) == 5:
            monkeypatch.setattr("lws_runtime.webhook.keeper.decide", decide)
        if len(waits) == 7:
            raise asyncio.CancelledError

    monkeypatch.setattr("lws_runtime.webhook.keeper.decide", fail)
    run_the_loop(one, monkeypatch, wait)
    assert waits[:5] == [2.0, 4.0, 8.0, 16.0, 30.0]
    assert waits[6] == 60.0
    assert problems[:5] == ["a bug: AssertionError; the log has the traceback"] * 5
    assert (one.in_place, one.problem) == (True, "")
    assert [record.exc_info is not None for record in caplog.records if record.levelname == "ERROR"] == [True]


def test_secret_values_must_be_base64() -> None:
    held = with_material({}, Material(b"a", b"b", b"c", b"d"))["data"]
    assert [base64.b64decode(value) for value in held.values()] == [b"a", b"b", b"c", b"d"]
