"""Hostile and broken input, made from good input by chance: manifests, reviews, and files for the commands.

Each kind of input is made from a number alone, and checked by what must hold of anything at all. `pytest`
takes a bounded share (tests/property/test_hostile_input.py); one command takes many, and says what it found:

    python tests/hostile.py manifests 100000
    python tests/hostile.py reviews 100000
    python tests/hostile.py files 20000
"""

from __future__ import annotations

import argparse
import asyncio
import copy
import json
import math
import random
import re
import ssl
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

import aiohttp
import yaml
from click.testing import CliRunner
from reviewing import PATHS, VALIDATE_SET, review

from lws_core.codec import decode, decode_lenient, encode
from lws_core.defaulting import apply_defaults
from lws_core.errors import FieldError
from lws_core.options import Options
from lws_core.preview import preview
from lws_core.validation import validate_create, validate_update
from lws_core.values import FrozenMap, Json, as_map, freeze
from lws_runtime.cli import main as lws
from lws_runtime.cli.loading import admit
from lws_runtime.kube.connection import connect
from lws_runtime.kube.plugin import NoCluster
from lws_runtime.webhook.certificates import self_signed
from lws_runtime.webhook.process import Webhooks
from lws_runtime.webhook.reviews import MAX_DEPTH
from lws_runtime.webhook.server import ServerSettings

ROOT: Final = Path(__file__).parents[1]
LONGEST_S: Final = 1.0
"""CPU time that one manifest may take."""

MOST_RSS_GROWTH_KIB: Final = 16 * 1024
"""By how much a webhook process may grow from the first tenth of all reviews to the last."""

LONGEST_COMMAND_S: Final = 20.0
_DEEP: Final = 60
_AT_ONCE: Final = 8
_PART: Final = 2000
_SETS: Final = 400  # that reviews are made around
_HEADERS: Final = {"Content-Type": "application/json"}


def nested(depth: int, *, in_lists: bool) -> Any:
    """A value so many levels deep."""
    value: Any = 1
    for _ in range(depth):
        value = [value] if in_lists else {"a": value}
    return value


SMALL: Final[tuple[Any, ...]] = (
    None, True, False, 0, 1, -1, 3.0, 0.5, -0.0, 1e308, 2**31 - 1, 2**31, 2**53 + 1, 2**63, 2**64, -(2**63),
    "", " ", "0", "1", "-1", "01", "1e3", "25%", "101%", "-1%", "%", "٣", "²", "e\u0301", "\u0000", "\u202e",
    "\ufeff", "\U0001f600", "a\nb", "null", "~", "yes", "${HOME}", "$(A)", "%s%n", "../../etc/passwd",
    "a/b/c", ".", "a.b", "-a", "A" * 64, "a" * 254, [], {}, [None], [[]], [{}], {"": None},
    {"a": []}, {"\u0000": 1},
)  # fmt: skip
"""What is put in the place of values."""

LARGE: Final[tuple[Any, ...]] = (
    math.nan, math.inf, 10**400, "1" * 5000, "x" * 100_000, list(range(1000)),
    {str(index): index for index in range(1000)},
    nested(_DEEP, in_lists=True), nested(_DEEP, in_lists=False),
)  # fmt: skip
"""What is put there once in a while, and numbers that JSON does not have."""


def hostile(chance: random.Random) -> Any:
    """A value that nobody expects."""
    return copy.deepcopy(chance.choice(LARGE if chance.random() < 0.04 else SMALL))


# -- changing values


def mutated(chance: random.Random, value: Any, most: int = 4) -> Any:
    """A value with some of its parts spoiled: replaced, dropped, renamed, doubled, added, or moved."""
    value = copy.deepcopy(value)
    for _ in range(chance.randint(1, most)):
        places = list(_places(value))
        if not places:
            return hostile(chance)
        above, key = chance.choice(places)
        _spoil(chance, places, above, key)
    return value


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in a value: what holds it, and its key there."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in list(items):
        yield value, key
        if len(str(key)) < 100:
            yield from _places(item) if not isinstance(item, list | dict) or len(item) < 100 else ()


def _spoil(chance: random.Random, places: list[tuple[Any, Any]], above: Any, key: Any) -> None:
    match chance.randrange(6):
        case 0 | 1:
            above[key] = hostile(chance)
        case 2:
            del above[key]
        case 3 if isinstance(above, dict):
            name = str(key)
            other = chance.choice((name.upper(), f"{name}s", name[:-1], f" {name}", "", f"{name}\u0000", "é"))
            above[other] = above.pop(key)
        case 3:
            above.append(copy.deepcopy(above[key]))
        case 4:
            holder, place = chance.choice(places)
            if place in holder if isinstance(holder, dict) else place < len(holder):
                above[key] = copy.deepcopy(holder[place])
        case _:
            name = chance.choice(("extra", "", "replicas", "a.b/c", "status", "\U0001f600"))
            if isinstance(above, dict):
                above[name] = hostile(chance)
            else:
                above.insert(0, hostile(chance))


def spoiled_bytes(chance: random.Random, content: bytes) -> bytes:
    """Bytes with some of them changed, cut out, doubled or made up."""
    if chance.random() < 0.1:
        return chance.randbytes(chance.randrange(400))
    content = bytes(content)
    for _ in range(chance.randint(1, 6)):
        at = chance.randrange(len(content) + 1)
        end = min(len(content), at + chance.choice((1, 1, 4, 30, 300)))
        piece = chance.choice(
            (b"", chance.randbytes(3), content[at:end] * 2, b"- [", b"{", b": ", b"&a ", b"*a ")
        )
        content = content[:at] + piece + content[end:]
    return content


# -- manifests


@cache
def corpus() -> list[Any]:
    """Good sets: the examples, and those recorded from clusters."""
    found = []
    for path in sorted((ROOT / "examples").glob("*.yaml")):
        found += list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
    for path in sorted((ROOT / "tests" / "fixtures" / "takeover").glob("*.json")):
        found += list(_sets_in(json.loads(path.read_text(encoding="utf-8"))))
    return [one for one in found if isinstance(one, dict) and one.get("kind") == "LeaderWorkerSet"]


def _sets_in(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        if value.get("kind") == "LeaderWorkerSet" and "spec" in value:
            yield value
        for item in value.values():
            yield from _sets_in(item)
    elif isinstance(value, list):
        for item in value:
            yield from _sets_in(item)


def check_manifests(count: int, first: int = 0, bases: list[Any] | None = None) -> Counter[str]:
    """Judge, default, decode and render so many mutated manifests. Raises AssertionError for the first that
    breaks something, with its number."""
    bases, found = bases or corpus(), Counter[str]()
    for number in range(first, first + count):
        chance = random.Random(number)
        base = chance.choice(bases)
        try:
            manifest = freeze(mutated(chance, base))
        except TypeError:  # NaN and infinity: what reads files and requests does not let them through
            found["no JSON"] += 1
            continue
        began_s = time.process_time()
        try:
            found[check_manifest(manifest, freeze(base))] += 1
        except Exception as problem:
            raise AssertionError(
                f"manifest {number}: {type(problem).__name__}: {problem}"[:2000]
            ) from problem
        took_s = time.process_time() - began_s
        assert took_s < LONGEST_S, f"manifest {number} takes {took_s:.1f} s"
    return found


def check_manifest(manifest: Json, base: Json) -> str:
    """Everything that lws_core makes of a manifest; whether it was "valid", "refused", or no map."""
    _, faults = decode_lenient(manifest)
    for verdict in (
        validate_create(manifest),
        validate_update(manifest, base),
        validate_update(apply_defaults(as_map(base)), manifest),
    ):
        _check_errors(verdict.errors)
    _check_errors(faults)
    if not isinstance(manifest, FrozenMap):
        return "no map"
    completed, verdict = admit(manifest)
    _check_errors(verdict.errors)
    assert apply_defaults(completed) == completed
    if verdict.errors:
        return "refused"
    lws_set = decode(completed)
    assert decode(encode(lws_set)) == lws_set
    groups = range(min(1, lws_set.spec.replicas))
    assert list(preview(lws_set, Options(), groups, with_pods=lws_set.spec.leader_worker_template.size < 100))
    return "valid"


def _check_errors(errors: tuple[FieldError, ...]) -> None:
    for error in errors:
        assert str(error).isprintable() or "\n" not in str(error), f"several lines: {error}"
        assert error.path, f"no path: {error}"


# -- reviews


def malformed(chance: random.Random) -> tuple[str, bytes]:
    """A path and a body that is no review which could be allowed."""
    path = chance.choice(PATHS)
    found = _dumped_set(chance.randrange(_SETS))
    body = review(path, object="@")
    asked = body["request"]
    # Mostly such as are read as reviews: one that is not ends its connection, and costs a handshake.
    match chance.choices(range(9), (4, 4, 4, 4, 4, 25, 4, 25, 26))[0]:
        case 0:
            return path, chance.randbytes(chance.randrange(300))
        case 1:
            whole = _with_object(body, found)
            return path, whole[: chance.randrange(len(whole))]
        case 2:
            broken = bytes([chance.randrange(0x80, 0x100)])
            return path, _with_object(body, found).replace(b'"', broken, 1)
        case 3:
            deep = nested(MAX_DEPTH * chance.choice((2, 5)), in_lists=chance.random() < 0.5)
            if chance.random() < 0.5:
                return path, dumped(deep)
            asked["object"] = {"spec": deep}
        case 4:
            body[chance.choice(("kind", "apiVersion", "request"))] = hostile(chance)
        case 5:
            asked[chance.choice(("operation", "kind", "resource"))] = hostile(chance)
        case 6:
            asked["uid"] = _other_than(str, chance)
        case 7:
            asked["object"] = _other_than(dict, chance)
        case _:
            spec = {"leaderWorkerTemplate": _other_than(dict, chance)}
            return VALIDATE_SET, dumped(
                review(VALIDATE_SET, object={"metadata": {"name": "a"}, "spec": spec})
            )
    return path, _with_object(body, found)


def _with_object(body: dict[str, Any], found: bytes) -> bytes:
    return dumped(body).replace(b'"@"', found, 1)


@cache
def _dumped_set(number: int) -> bytes:
    """A set as JSON, every other one mutated."""
    chance = random.Random(number)
    found = chance.choice(corpus())
    return dumped(mutated(chance, found) if number % 2 else found)


def _other_than(kind: type, chance: random.Random) -> Any:
    """A hostile value that is not of a type."""
    while isinstance(value := hostile(chance), kind):
        pass
    return value


def dumped(value: Any) -> bytes:
    """A value as JSON, such numbers included as JSON does not have."""
    return json.dumps(value).encode()


def check_reviews(count: int, first: int = 0) -> Counter[str]:
    """Send so many malformed reviews to a webhook process. Raises AssertionError if one is allowed or brings
    trouble, or if the process ends or grows."""
    return asyncio.run(_check_reviews(count, first))


async def _check_reviews(count: int, first: int) -> Counter[str]:
    with tempfile.TemporaryDirectory() as folder:
        certificate, key = self_signed("localhost", now_s=time.time())
        (Path(folder) / "tls.crt").write_bytes(certificate)
        (Path(folder) / "tls.key").write_bytes(key)
        webhooks = Webhooks(ServerSettings(host="127.0.0.1", port=0, cert_dir=folder, poll_s=0.05))
        await webhooks.start()
        try:
            async with asyncio.timeout(30):
                while not webhooks.is_serving():
                    await asyncio.sleep(0.02)
            return await _send_all(webhooks, certificate, count, first)
        finally:
            await webhooks.stop()


async def _send_all(webhooks: Webhooks, certificate: bytes, count: int, first: int) -> Counter[str]:
    context = ssl.create_default_context(cadata=certificate.decode())
    context.check_hostname = False
    pid, tenth = webhooks.pid, first + count // 10
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session:

        async def send(numbers: range) -> Counter[str]:
            found = Counter[str]()
            for number in numbers:
                path, body = malformed(random.Random(number))
                url = f"https://127.0.0.1:{webhooks.port}{path}"
                async with session.post(url, data=body, headers=_HEADERS) as answer:
                    told = await answer.read()
                assert webhooks.pid == pid, f"review {number} ended the process"
                found[judged(number, body, answer.status, told)] += 1
            return found

        async def send_all(start: int, end: int) -> Counter[str]:
            parts = [send(range(start + place, end, _AT_ONCE)) for place in range(_AT_ONCE)]
            return sum(await asyncio.gather(*parts), Counter[str]())

        found = await send_all(first, tenth)
        before_kib = _rss_kib(pid)
        for start in range(tenth, first + count, _PART):
            end = min(start + _PART, first + count)
            found += await send_all(start, end)
            grown_kib = _rss_kib(pid) - before_kib
            assert grown_kib <= MOST_RSS_GROWTH_KIB, f"the process grew by {grown_kib} KiB"
            print(f"up to {end}: {dict(found)}; {_rss_kib(pid)} KiB, {grown_kib} of them new", flush=True)
    return found


def judged(number: int, body: bytes, status: int, told: bytes) -> str:
    """What an answer says of a review. Raises AssertionError unless it refuses it."""
    if status != 200:
        assert status == 400, f"review {number}: status {status}"
        return "no review"
    response = json.loads(told)["response"]
    assert response["allowed"] is False, f"review {number} is allowed: {body[:500]!r}"
    assert response["status"]["code"] in (400, 403, 422), f"review {number}: {response['status']}"
    return "denied"


def _rss_kib(pid: int | None) -> int:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS:")).split()[1])


# -- files

KINDS: Final = (
    "manifest", "rendered", "simulated", "scenario", "strict-scenario", "golden", "configuration",
    "kubeconfig",
)  # fmt: skip
"""What a file was before it was broken, and with it the command that gets it."""

CONFIGURATION: Final = b"""\
apiVersion: config.lws.x-k8s.io/v1alpha1
kind: Configuration
leaderElection:
  leaderElect: true
  leaseDuration: 15s
webhook:
  port: 9443
  certDir: /tmp/k8s-webhook-server/serving-certs
clientConnection:
  qps: 500
  burst: 500
internalCertManagement:
  enable: true
"""
KUBECONFIG: Final = b"""\
apiVersion: v1
kind: Config
current-context: here
contexts:
- name: here
  context: {cluster: here, user: me, namespace: default}
clusters:
- name: here
  cluster: {server: "https://127.0.0.1:1", insecure-skip-tls-verify: true}
users:
- name: me
  user: {token: secret}
"""


def check_files(count: int, folder: Path, first: int = 0) -> Counter[str]:
    """Run commands on so many broken files. Raises AssertionError for an exit code that is not documented, a
    traceback, or an error without a message."""
    found = Counter[str]()
    kinds = _kinds_of_files(folder)
    for number in range(first, first + count):
        chance = random.Random(number)
        kind = chance.choice(KINDS)
        content, run = kinds[kind]
        path = folder / f"broken-{kind}.yaml"
        path.write_bytes(_broken(chance, content))
        began_s = time.process_time()
        outcome = run(path)
        took_s = time.process_time() - began_s
        assert took_s < LONGEST_COMMAND_S, f"file {number} ({kind}) takes {took_s:.0f} s, see {path}"
        found[f"{kind}: {outcome}"] += 1
    return found


def _broken(chance: random.Random, content: bytes) -> bytes:
    if chance.random() < 0.5:
        return spoiled_bytes(chance, content)
    documents = [mutated(chance, document) for document in yaml.safe_load_all(content)]
    return yaml.dump_all(documents, allow_unicode=True).encode(errors="surrogatepass")


def _kinds_of_files(folder: Path) -> dict[str, tuple[bytes, Callable[[Path], str]]]:
    example, scenarios = ROOT / "examples" / "lws-rollout-strategy.yaml", ROOT / "examples" / "scenarios"
    golden = folder / "golden.yaml"
    run_command("simulate", example, "--golden", golden, "--update-golden")
    return {
        "manifest": (example.read_bytes(), lambda path: run_command("validate", path)),
        "rendered": (example.read_bytes(), lambda path: run_command("render", path, "--group", 0)),
        "simulated": (example.read_bytes(), lambda path: run_command("simulate", path)),
        "scenario": (
            (scenarios / "failures-in-mid-flight.yaml").read_bytes(),
            lambda path: run_command("simulate", example, "--scenario", path),
        ),
        "strict-scenario": (
            (ROOT / "tests" / "fixtures" / "strict-scenario.yaml").read_bytes(),
            lambda path: run_command("simulate", example, "--scenario", path),
        ),
        "golden": (golden.read_bytes(), lambda path: run_command("simulate", example, "--golden", path)),
        "configuration": (
            CONFIGURATION,
            lambda path: run_command("operator", "--config", path, "--kubeconfig", folder / "none"),
        ),
        "kubeconfig": (KUBECONFIG, _try_kubeconfig),
    }


def _try_kubeconfig(path: Path) -> str:
    """The operator is started only where it gets no further than the file."""
    try:
        connect(str(path), {})
    except NoCluster:
        return run_command("operator", "--kubeconfig", path)
    return "can be used"


def run_command(*arguments: object) -> str:
    """How a command ends: a code that is documented, with a message where it is an error."""
    shown = " ".join(map(str, arguments))
    result = CliRunner().invoke(lws, [str(one) for one in arguments])
    told = result.stderr
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise AssertionError(f"{shown}: {result.exception!r}"[:2000]) from result.exception
    assert result.exit_code in (0, 1, 2, 3), f"{shown}: code {result.exit_code}"
    assert "Traceback" not in told, f"{shown}: {told}"
    if result.exit_code == 2:
        lines = told.splitlines()
        assert lines, f"{shown}: no message"
        assert all(re.match(r"(error|warning|note): \S", line) for line in lines), f"{shown}: {told[:2000]}"
    return f"code {result.exit_code}"


# -- many


def main() -> int:
    parser = argparse.ArgumentParser(description="Takes broken input, as much as is asked for.")
    parser.add_argument("what", choices=("manifests", "reviews", "files"))
    parser.add_argument("count", type=int)
    parser.add_argument("--first", type=int, default=0, help="the number of the first input")
    asked = parser.parse_args()
    began_s = time.monotonic()
    found = Counter[str]()
    if asked.what == "reviews":
        found = check_reviews(asked.count, asked.first)
    for first in range(asked.first, asked.first + asked.count, _PART) if asked.what != "reviews" else ():
        part = min(_PART, asked.first + asked.count - first)
        if asked.what == "manifests":
            found += check_manifests(part, first)
        else:
            with tempfile.TemporaryDirectory() as folder:
                found += check_files(part, Path(folder), first)
        print(f"up to {first + part}: {dict(found)} in {time.monotonic() - began_s:.0f} s", flush=True)
    print(f"{asked.count} {asked.what}: {dict(sorted(found.items()))} in {time.monotonic() - began_s:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
