"""How long admission takes, over TLS on the loopback interface, beside an operator that is idle or busy.

    python benchmarks/webhook.py [--requests N]

Prints p50, p99 and the longest of N requests, in milliseconds, for a pod's and a set's webhooks. "busy" has a
loop without a pause in the process that started the server, as a reconciling operator would be.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import ssl
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import aiohttp
import yaml

from lws_core import names
from lws_runtime.webhook.certificates import self_signed
from lws_runtime.webhook.process import Webhooks
from lws_runtime.webhook.server import ServerSettings

EXAMPLE = Path(__file__).parents[1] / "examples" / "lws.yaml"
POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {
        "name": "serve-3-2",
        "namespace": "default",
        "labels": {
            names.SET_NAME: "serve",
            names.GROUP_INDEX: "3",
            names.GROUP_KEY: "0" * 40,
            names.REVISION_KEY: "7f4b65d6b4",
        },
        "annotations": {names.SIZE: "4", names.LEADER_NAME: "serve-3"},
    },
    "spec": {
        "subdomain": "serve",
        "containers": [
            {
                "name": f"c{index}",
                "image": "img:1",
                "env": [{"name": f"V{n}", "value": "x"} for n in range(20)],
            }
            for index in range(2)
        ],
    },
}
KINDS: dict[str, tuple[str, str, str]] = {
    "pod": ("", "Pod", "pods"),
    "set": (names.GROUP, names.KIND, names.PLURAL),
}
CASES = (
    ("/mutate--v1-pod", "pod"),
    ("/mutate-leaderworkerset-x-k8s-io-v1-leaderworkerset", "set"),
    ("/validate-leaderworkerset-x-k8s-io-v1-leaderworkerset", "set"),
)


def review(what: str) -> bytes:
    group, kind, resource = KINDS[what]
    found = POD if what == "pod" else yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))
    asked = {
        "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
        "kind": {"group": group, "version": "v1", "kind": kind},
        "resource": {"group": group, "version": "v1", "resource": resource},
        "operation": "CREATE",
        "object": found,
    }
    return json.dumps(
        {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": asked}
    ).encode()


async def ask(session: aiohttp.ClientSession, url: str, body: bytes) -> float:
    started_s = time.perf_counter()
    async with session.post(url, data=body, headers={"Content-Type": "application/json"}) as answer:
        read = await answer.read()
        assert answer.status == 200, read
    return time.perf_counter() - started_s


def report(name: str, took_s: list[float]) -> None:
    ordered = sorted(one * 1e3 for one in took_s)
    p50, p99 = ordered[len(ordered) // 2], ordered[len(ordered) * 99 // 100]
    print(f"{name:70} p50 {p50:6.2f}  p99 {p99:6.2f}  longest {ordered[-1]:6.2f} ms")


async def measure(port: int, pem: bytes, count: int, state: str) -> None:
    context = ssl.create_default_context(cadata=pem.decode())
    context.check_hostname = False
    connector = aiohttp.TCPConnector(ssl=context, limit=1)
    async with aiohttp.ClientSession(connector=connector) as session:
        for path, what in CASES:
            url, body = f"https://127.0.0.1:{port}{path}", review(what)
            for _ in range(50):
                await ask(session, url, body)
            report(f"{state} {path}", [await ask(session, url, body) for _ in range(count)])


async def main(count: int) -> None:
    pem, key = self_signed("localhost", now_s=time.time())
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "tls.crt").write_bytes(pem)
        Path(folder, "tls.key").write_bytes(key)
        webhooks = Webhooks(ServerSettings("127.0.0.1", 0, folder))
        started_s = time.perf_counter()
        await webhooks.start()
        while not webhooks.is_serving():
            await asyncio.sleep(0.005)
        print(f"serving after {time.perf_counter() - started_s:.2f} s")
        await measure(webhooks.port, pem, count, "idle")
        with _client(webhooks.port, count, pem) as client:
            while client.poll() is None:
                _spin(0.05)
                await asyncio.sleep(0)
            print(client.communicate()[0], end="")
        await webhooks.stop()


def _spin(seconds: float) -> None:
    until_s = time.perf_counter() + seconds
    while time.perf_counter() < until_s:
        pass


def _client(port: int, count: int, pem: bytes) -> subprocess.Popen[str]:
    """The requests from a process of their own, as the loop here is busy."""
    arguments = [sys.executable, __file__, "--requests", str(count), "--port", str(port)]
    client = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert client.stdin is not None
    client.stdin.write(pem.decode())
    client.stdin.close()
    client.stdin = None
    return client


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--port", type=int, default=0, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.port:
        asyncio.run(measure(given.port, sys.stdin.buffer.read(), given.requests, "busy"))
    else:
        asyncio.run(main(given.requests))
