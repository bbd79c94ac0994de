"""Where the API server is found, and with which credentials; kubeconfig files that are wrong, and plugins."""

from __future__ import annotations

import asyncio
import datetime
import json
import os
import signal
import ssl
import stat
import sys
import time
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from lws_runtime.kube import connection as connection_module
from lws_runtime.kube import plugin as plugin_module
from lws_runtime.kube.connection import Connection, connect
from lws_runtime.kube.plugin import ExecPlugin, NoCluster
from lws_runtime.webhook.certificates import self_signed

SERVER = "https://10.0.0.1:6443"
API = "client.authentication.k8s.io/v1"


def kubeconfig(
    folder: Path,
    *,
    user: dict[str, Any] | None = None,
    cluster: dict[str, Any] | None = None,
    name: str = "config",
    **more: Any,
) -> str:
    path = folder / name
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": SERVER, **(cluster or {})}}],
        "users": [{"name": "u", "user": user or {}}],
        **more,
    }
    path.write_text(yaml.safe_dump(document))
    return str(path)


def headers(found: Connection) -> dict[str, str]:
    return asyncio.run(found.headers())


def plugin_file(folder: Path, body: str) -> str:
    """A plugin that runs some Python, and counts its runs in a file."""
    path = folder / "plugin"
    path.write_text(
        f"#!{sys.executable}\nimport json, os, sys\nopen({str(folder / 'runs')!r}, 'a').write('.')\n{body}\n"
    )
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def says(folder: Path, status: dict[str, Any], version: str = API) -> str:
    answer = {"apiVersion": version, "kind": "ExecCredential", "status": status}
    return plugin_file(folder, f"print({json.dumps(answer)!r})")


def runs(folder: Path) -> int:
    return len((folder / "runs").read_text())


def with_plugin(folder: Path, command: str, **more: Any) -> Connection:
    return connect(kubeconfig(folder, user={"exec": {"apiVersion": API, "command": command, **more}}))


# -- which one


def test_sources_must_go_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    account = tmp_path / "account"
    account.mkdir()
    (account / "token").write_text("of-the-pod")
    certificate, _ = self_signed("x", now_s=time.time())
    (account / "ca.crt").write_bytes(certificate)
    monkeypatch.setattr(connection_module, "SERVICE_ACCOUNT", account)
    (tmp_path / ".kube").mkdir()
    kubeconfig(tmp_path / ".kube", user={"token": "home"})
    flag = kubeconfig(tmp_path, user={"token": "flag"}, name="flag")
    variable = kubeconfig(tmp_path, user={"token": "variable"}, name="variable")
    environment = {
        "HOME": str(tmp_path),
        "KUBECONFIG": variable,
        "KUBERNETES_SERVICE_HOST": "fd00::1",
        "KUBERNETES_SERVICE_PORT": "6443",
    }
    assert headers(connect(flag, environment)) == {"Authorization": "Bearer flag"}
    assert headers(connect("", environment)) == {"Authorization": "Bearer variable"}
    del environment["KUBECONFIG"]
    found = connect("", environment)
    assert (found.url, headers(found)) == ("https://[fd00::1]:6443", {"Authorization": "Bearer of-the-pod"})
    del environment["KUBERNETES_SERVICE_HOST"]
    assert headers(connect("", environment)) == {"Authorization": "Bearer home"}
    with pytest.raises(NoCluster, match="give --kubeconfig FILE"):
        connect("", {"HOME": str(tmp_path / "nowhere")})


def test_several_files_must_be_read_as_one(tmp_path: Path) -> None:
    first = tmp_path / "first"
    first.mkdir()
    (first / "secret").write_text("beside-the-first")
    one = kubeconfig(first, user={"tokenFile": "secret"}, clusters=[], contexts=[])
    two = kubeconfig(tmp_path, user={"token": "hidden"}, name="two", **{"current-context": "other"})
    found = connect("", {"KUBECONFIG": f"{tmp_path / 'missing'}:{one}:{two}"})
    assert (found.url, headers(found)) == (SERVER, {"Authorization": "Bearer beside-the-first"})


def test_credentials_must_be_those_of_the_file(tmp_path: Path) -> None:
    basic = connect(kubeconfig(tmp_path, user={"username": "me", "password": "pass"}))
    assert headers(basic) == {"Authorization": "Basic " + b64encode(b"me:pass").decode()}
    assert headers(connect(kubeconfig(tmp_path))) == {}
    with_proxy = connect(kubeconfig(tmp_path, cluster={"proxy-url": "http://p:1", "tls-server-name": "kube"}))
    assert (with_proxy.proxy, with_proxy.server_name) == ("http://p:1", "kube")


def test_tls_must_be_as_the_file_asks(tmp_path: Path) -> None:
    certificate, key = self_signed("me", now_s=time.time())
    (tmp_path / "me.key").write_bytes(key)
    user = {"client-certificate-data": b64encode(certificate).decode(), "client-key": "me.key"}
    strict = connect(kubeconfig(tmp_path, user=user)).ssl_context
    assert strict is not None
    assert strict.verify_mode is ssl.CERT_REQUIRED
    assert strict.check_hostname
    lax = connect(kubeconfig(tmp_path, cluster={"insecure-skip-tls-verify": True})).ssl_context
    assert lax is not None
    assert lax.verify_mode is ssl.CERT_NONE
    assert connect(kubeconfig(tmp_path, cluster={"server": "http://localhost"})).ssl_context is None


def signed(name: str, issuer: str, key: ec.EllipticCurvePrivateKey, by: ec.EllipticCurvePrivateKey) -> bytes:
    """A certificate as older tools made them: without key usages and key identifiers."""

    def named(common: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common)])

    now = datetime.datetime.now(datetime.UTC)
    constraints = x509.BasicConstraints(ca=name != "kube", path_length=None)
    builder = x509.CertificateBuilder(named(issuer), named(name), key.public_key(), len(name))
    builder = builder.not_valid_before(now - datetime.timedelta(1)).not_valid_after(
        now + datetime.timedelta(1)
    )
    builder = builder.add_extension(constraints, critical=True)
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("kube")]), critical=False)
    return builder.sign(by, hashes.SHA256()).public_bytes(Encoding.PEM)


def trusts(client: ssl.SSLContext, server: ssl.SSLContext) -> bool:
    """Whether a client goes on with what a server shows as `kube`."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(to_client, to_server, server_hostname="kube"),
        server.wrap_bio(to_server, to_client, server_side=True),
    )
    for end in ends * 3:
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue
        except ssl.SSLCertVerificationError:
            return False
    return True


@pytest.mark.parametrize("authority", ["root", "middle", "other"])
@pytest.mark.parametrize("where", ["kubeconfig", "pod"])
def test_servers_that_go_trusts_must_be_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, authority: str, where: str
) -> None:
    """By an authority without a key usage, by one that is no root, and with comments beside it."""
    create = ssl.create_default_context

    def strict(**how: Any) -> ssl.SSLContext:
        """As it is from Python 3.13 on."""
        made = create(**how)
        made.verify_flags |= ssl.VERIFY_X509_STRICT
        return made

    monkeypatch.setattr(ssl, "create_default_context", strict)
    monkeypatch.setattr(connection_module, "SERVICE_ACCOUNT", tmp_path)
    root, middle, own, other = (ec.generate_private_key(ec.SECP256R1()) for _ in range(4))
    between = signed("middle", "root", middle, root)
    authorities = {
        "root": signed("root", "root", root, root),
        "middle": between,
        "other": signed("root", "root", other, other),
    }
    comment = "# Zertifikat für Köln\n".encode()
    (tmp_path / "ca.crt").write_bytes(comment + authorities[authority] + comment)
    (tmp_path / "token").write_text("x")
    key = own.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "chain").write_bytes(signed("kube", "middle", own, middle) + between + key)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tmp_path / "chain")
    file = kubeconfig(tmp_path, cluster={"certificate-authority": "ca.crt"}) if where == "kubeconfig" else ""
    client = connect(file, {"KUBERNETES_SERVICE_HOST": "kube"}).ssl_context
    assert client is not None
    assert trusts(client, server) == (authority != "other")


@pytest.mark.parametrize("content", ["", "nothing here"])
def test_pods_authority_without_a_certificate_never_means_any(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    monkeypatch.setattr(connection_module, "SERVICE_ACCOUNT", tmp_path)
    (tmp_path / "token").write_text("x")
    (tmp_path / "ca.crt").write_text(content)
    with pytest.raises(NoCluster, match=r"ca.crt: the authority holds no certificate"):
        connect("", {"KUBERNETES_SERVICE_HOST": "kube"})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"current-context": ""}, "current-context is not set"),
        ({"contexts": []}, "contexts has no entry 'here'"),
        ({"clusters": "what"}, "clusters has no entry 'c'"),
        ({"users": []}, "users has no entry 'u'"),
        ({"cluster": {"server": "10.0.0.1"}}, "server is no URL"),
        ({"cluster": {"server": "https://[::1"}}, "server is no URL of HTTP"),
        ({"cluster": {"server": "https://"}}, "server is no URL"),
        ({"cluster": {"server": "https://localhost:port"}}, "server is no URL"),
        (
            {"cluster": {"proxy-url": "socks5://localhost:1"}},
            "clusters[c].cluster.proxy-url is no URL of HTTP",
        ),
        ({"cluster": {"proxy-url": ["http://p"]}}, "proxy-url is no URL"),
        ({"cluster": {"certificate-authority": "missing.crt"}}, "certificates: "),
        ({"cluster": {"certificate-authority-data": "c2VjcmV0"}}, "certificates: "),
        (
            {"user": {"client-certificate-data": "c2VjcmV0"}},
            "certificates: client-certificate needs client-key",
        ),
        (
            {"cluster": {"server": "https://me:secret@localhost"}, "user": {"token": "secret"}},
            "clusters[c].cluster.server has a user beside what users[u] has",
        ),
        ({"user": {"as": "somebody"}}, "users[u].user.as: nobody can be impersonated"),
        ({"user": {"as-groups": ["some"]}}, "users[u].user.as-groups: nobody can be impersonated"),
        ({"user": {"client-certificate-data": "%%%", "client-key-data": "secret"}}, "certificates: "),
    ],
)
def test_faults_must_be_one_line_that_names_the_file(
    tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    path = kubeconfig(tmp_path, **change)
    with pytest.raises(NoCluster) as raised:
        connect(path)
    assert words in str(raised.value)
    assert path in str(raised.value)
    assert "\n" not in str(raised.value)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    "text",
    [None, "", "users: [{name: u, user: {token: secret", "token: secret\n\tx: y", "\0", "[]", "- secret"],
)
def test_files_that_are_no_kubeconfig_must_be_one_line_without_what_they_hold(
    tmp_path: Path, text: str | None
) -> None:
    path = tmp_path / "config"
    if text is not None:
        path.write_text(text)
    with pytest.raises(NoCluster) as raised:
        connect(str(path))
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)
    assert "secret" not in str(raised.value)


def test_token_that_no_header_can_have_must_be_told_until_there_is_another(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret\nsecret\n")
    of_file = connect(kubeconfig(tmp_path, user={"tokenFile": "token"}))
    of_user = connect(kubeconfig(tmp_path, user={"token": "secret\x00secret"}))
    for found in (of_file, of_user):
        with pytest.raises(NoCluster, match=r"config: .* control character") as raised:
            asyncio.run(found.prepare())
        assert "secret" not in str(raised.value)
    (tmp_path / "token").write_text("good\n")
    assert headers(of_file) == {"Authorization": "Bearer good"}


def test_token_files_must_be_read_again_after_a_minute_and_when_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "token"
    file.write_text("one")
    found = Connection(SERVER, token_file=file)

    async def run() -> list[str]:
        seen = [(await found.headers())["Authorization"]]
        file.write_text("two")
        seen.append((await found.headers())["Authorization"])
        assert await found.refresh("Bearer one")
        assert await found.refresh("Bearer one")  # of another request that was refused at the same time
        assert not await found.refresh("Bearer two")
        seen.append((await found.headers())["Authorization"])
        file.write_text("three")
        monkeypatch.setattr(connection_module, "_TOKEN_AGE_S", 0.0)
        return [*seen, (await found.headers())["Authorization"]]

    assert asyncio.run(run()) == ["Bearer one", "Bearer one", "Bearer two", "Bearer three"]


def test_token_that_cannot_be_read_must_be_said_before_anything_is_asked(tmp_path: Path) -> None:
    found = connect(kubeconfig(tmp_path, user={"tokenFile": "missing"}))
    with pytest.raises(NoCluster, match=r"the token cannot be read: .*missing"):
        asyncio.run(found.prepare())


# -- exec plugins


def test_plugin_must_be_run_once_for_all_who_wait(tmp_path: Path) -> None:
    found = with_plugin(tmp_path, says(tmp_path, {"token": "abc"}))

    async def run() -> list[dict[str, str]]:
        return await asyncio.gather(*(found.headers() for _ in range(5)))

    assert asyncio.run(run()) == [{"Authorization": "Bearer abc"}] * 5
    assert runs(tmp_path) == 1


def test_plugin_must_be_told_what_is_wanted(tmp_path: Path) -> None:
    body = (
        "info = json.loads(os.environ['KUBERNETES_EXEC_INFO'])\n"
        "told = [os.environ['EXTRA'], sys.argv[1], info['spec']['cluster']['server'], sys.stdin.read()]\n"
        "print(json.dumps({'apiVersion': info['apiVersion'], 'status': {'token': '|'.join(told)}}))"
    )
    plugin_file(tmp_path, body)
    more = {"args": ["arg"], "env": [{"name": "EXTRA", "value": "x"}], "provideClusterInfo": True}
    found = with_plugin(tmp_path, "./plugin", **more)
    assert headers(found) == {"Authorization": f"Bearer x|arg|{SERVER}|"}


@pytest.mark.parametrize("inline", [True, False])
def test_plugin_must_be_told_of_the_cluster_as_kubectl_does(tmp_path: Path, inline: bool) -> None:
    body = (
        f"open({str(tmp_path / 'info')!r}, 'w').write(os.environ['KUBERNETES_EXEC_INFO'])\n"
        f"print(json.dumps({{'apiVersion': {API!r}, 'status': {{'token': 'x'}}}}))"
    )
    exec_ = {"apiVersion": API, "command": plugin_file(tmp_path, body), "provideClusterInfo": True}
    certificate, _ = self_signed("x", now_s=time.time())
    data = b64encode(certificate).decode()
    (tmp_path / "ca.crt").write_bytes(certificate)
    authority = {"certificate-authority-data": data} if inline else {"certificate-authority": "ca.crt"}
    extensions = [
        {"name": "other", "extension": {"x": "y"}},
        {"name": "client.authentication.k8s.io/exec", "extension": {"audience": ["a"]}},
    ]
    cluster = {**authority, "tls-server-name": "kube", "extensions": extensions}
    asyncio.run(connect(kubeconfig(tmp_path, user={"exec": exec_}, cluster=cluster)).prepare())
    assert json.loads((tmp_path / "info").read_text())["spec"]["cluster"] == {
        "server": SERVER,
        "tls-server-name": "kube",
        "certificate-authority-data": data,
        "config": {"audience": ["a"]},
    }


def test_plugin_must_run_again_when_its_token_expires_or_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = (
        f"runs = len(open({str(tmp_path / 'runs')!r}).read())\n"
        f"print(json.dumps({{'apiVersion': {API!r}, 'status': "
        "{'token': str(runs), 'expirationTimestamp': '2001-01-01T00:00:00Z'}}))"
    )
    monkeypatch.setattr(plugin_module, "_MOST_OFTEN_S", 0.0)
    found = with_plugin(tmp_path, plugin_file(tmp_path, body))

    async def run() -> list[str]:
        seen = [(await found.headers())["Authorization"] for _ in range(2)]
        assert await found.refresh("Bearer 2")
        assert await found.refresh("Bearer 2")
        return seen

    assert asyncio.run(run()) == ["Bearer 1", "Bearer 2"]
    assert runs(tmp_path) == 3


def test_plugin_must_run_again_when_no_header_can_have_its_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = (
        "times = len(open(os.path.dirname(__file__) + '/runs').read())\n"
        f"status = {{'token': 'good' if times == 2 else 'secret\\nsecret'}}\n"
        f"print(json.dumps({{'apiVersion': {API!r}, 'kind': 'ExecCredential', 'status': status}}))"
    )
    monkeypatch.setattr(plugin_module, "_MOST_OFTEN_S", 0.0)
    found = with_plugin(tmp_path, plugin_file(tmp_path, body))
    with pytest.raises(NoCluster, match="control character") as raised:
        asyncio.run(found.prepare())
    assert "secret" not in str(raised.value)
    assert headers(found) == {"Authorization": "Bearer good"}


def test_plugin_never_runs_for_each_refusal(tmp_path: Path) -> None:
    found = with_plugin(tmp_path, says(tmp_path, {"token": "refused"}))

    async def run() -> list[bool]:
        await found.headers()
        return [await found.refresh("Bearer refused") for _ in range(5)]

    assert asyncio.run(run()) == [False] * 5
    assert runs(tmp_path) == 1


def test_plugin_may_give_a_certificate(tmp_path: Path) -> None:
    certificate, key = self_signed("me", now_s=time.time())
    given = {"clientCertificateData": certificate.decode(), "clientKeyData": key.decode()}
    assert headers(with_plugin(tmp_path, says(tmp_path, given))) == {}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("sys.exit('no login: run me first')", "ended with code 1: no login: run me first"),
        ("print('secret, not JSON')", "printed what is no JSON"),
        ('print(\'{"status": {"token": "secret"}}\')', f"did not answer in {API}"),
        (f"print(json.dumps({{'apiVersion': {API!r}, 'status': {{}}}}))", "gave neither a token nor"),
        (
            f"print(json.dumps({{'apiVersion': {API!r}, 'status': "
            "{'clientCertificateData': 'secret', 'clientKeyData': 'secret'}}))",
            "gave a certificate that cannot be used",
        ),
        (
            f"print(json.dumps({{'apiVersion': {API!r}, 'status': "
            "{'token': 'secret', 'expirationTimestamp': 'soon'}}))",
            "gave no time as expirationTimestamp: 'soon'",
        ),
        *[
            (
                f"print(json.dumps({{'apiVersion': {API!r}, 'status': {{'token': {token!r}}}}}))",
                "gave a token with a control character",
            )
            for token in ("secret\n", "secret\r\nX-Remote-User: me", "secret\0", "secret\x7f", "secret\ud800")
        ],
        ("import time; time.sleep(60)", "did not end within 0.5 s"),
    ],
    ids=[
        *("fails", "garbage", "version", "nothing", "certificate", "time"),
        *("line break", "header", "nul", "delete", "surrogate"),
        "hangs",
    ],
)
def test_plugin_that_fails_must_be_one_line_without_what_it_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, words: str
) -> None:
    if "sleep" in body:  # the others end, however long Python takes to start
        monkeypatch.setattr(plugin_module, "_LONGEST_RUN_S", 0.5)
    found = with_plugin(tmp_path, plugin_file(tmp_path, body))
    with pytest.raises(NoCluster) as raised:
        asyncio.run(found.prepare())
    assert words in str(raised.value)
    assert str(tmp_path / "plugin") in str(raised.value)
    assert "\n" not in str(raised.value)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("how", ["too long", "cancelled"])
@pytest.mark.parametrize("then", ["time.sleep(30)", "pass"], ids=["hangs", "ends"])
def test_plugin_never_is_waited_for_while_an_agent_that_it_has_started_holds_its_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, then: str
) -> None:
    pid = tmp_path / "pid"
    body = (
        "import subprocess, time\n"
        "agent = subprocess.Popen(['sleep', '30'], start_new_session=True)\n"
        f"with open({str(pid) + '.new'!r}, 'w') as file: file.write(str(agent.pid))\n"
        f"os.rename({str(pid) + '.new'!r}, {str(pid)!r})\n{then}"
    )
    monkeypatch.setattr(plugin_module, "_DYING_S", 0.2)
    if how == "too long":
        monkeypatch.setattr(plugin_module, "_LONGEST_RUN_S", 4.0)  # it has its agent by then
    found = with_plugin(tmp_path, plugin_file(tmp_path, body))

    async def run() -> None:
        preparing = asyncio.create_task(found.prepare())
        while not pid.exists():
            assert not preparing.done()
            await asyncio.sleep(0.01)
        if how == "cancelled":
            preparing.cancel()
        done, _ = await asyncio.wait([preparing], timeout=15)
        os.kill(int(pid.read_text()), signal.SIGKILL)  # or the loop would not end either
        assert done
        with pytest.raises(NoCluster if how == "too long" else asyncio.CancelledError):
            await preparing

    asyncio.run(run())


def test_plugin_that_is_not_there_must_be_said(tmp_path: Path) -> None:
    with pytest.raises(NoCluster, match=r"the plugin 'no-such-plugin' cannot be run: .*No such file"):
        asyncio.run(with_plugin(tmp_path, "no-such-plugin").prepare())


def test_plugins_program_must_be_looked_for_beside_the_kubeconfig_if_it_has_a_slash() -> None:
    plugin = ExecPlugin({"command": "bin/login"}, "/etc/kube/config", {}, None)
    assert plugin._program() == "/etc/kube/bin/login"
    assert ExecPlugin({"command": "login"}, "/etc/kube/config", {}, None)._program() == "login"


def test_auth_providers_must_come_from_the_kubernetes_package(tmp_path: Path) -> None:
    token = ".".join(("e30", b64encode(b'{"exp": 99999999999}').decode().rstrip("="), "x"))
    found = connect(
        kubeconfig(tmp_path, user={"auth-provider": {"name": "oidc", "config": {"id-token": token}}})
    )
    assert headers(found) == {"Authorization": f"Bearer {token}"}


def test_auth_provider_that_has_nobody_to_ask_must_be_one_line(tmp_path: Path) -> None:
    """Its token has ended, and its issuer does not answer."""
    ended = ".".join(("e30", b64encode(b'{"exp": 1}').decode().rstrip("="), "x"))
    config = {
        "id-token": ended,
        "refresh-token": "secret",
        "client-id": "x",
        "client-secret": "secret",
        "idp-issuer-url": "https://127.0.0.1:1",
    }
    found = connect(kubeconfig(tmp_path, user={"auth-provider": {"name": "oidc", "config": config}}))
    with pytest.raises(NoCluster) as raised:
        asyncio.run(found.prepare())
    assert str(tmp_path) in str(raised.value)
    assert "\n" not in str(raised.value)
    assert "secret" not in str(raised.value)
