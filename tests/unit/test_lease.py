"""The lease against a store that keeps resourceVersions. Nothing waits: a clock of their own jumps to what
happens next, so that no deadline depends on how fast the machine is."""

from __future__ import annotations

import asyncio
import logging
import selectors
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import attrs
import pytest
from aiohttp import web
from loopback import Leases, answer, client_of, serving, until

from lws_runtime.kube.client import Client
from lws_runtime.kube.lease import Lease, LeaseSettings

DURATION_S, DEADLINE_S, RETRY_S = 1.0, 0.6, 0.04


def settings(identity: str) -> LeaseSettings:
    return LeaseSettings("lws-system", "lease", identity, DURATION_S, DEADLINE_S, RETRY_S)


class Jumping(selectors.DefaultSelector):  # type: ignore[misc,valid-type]
    """Waits for the network a moment at most; what else there is to wait for has then passed on the clock."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 1000.0

    def select(self, timeout: float | None = None) -> Any:
        found = super().select(timeout if timeout is None else min(timeout, 0.002))
        if timeout and not found:
            self.sleep(timeout + 1e-6)  # the loop calls what is due a moment too early
        return found

    def sleep(self, seconds: float) -> None:
        """As if nothing had run for so long."""
        self.now_s += seconds


@attrs.define
class Paged(Leases):
    """A store behind a gateway, which answers some methods with a page of its own, carried out or not."""

    page: object = None
    paged: tuple[str, ...] = ()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        response = await super().handle(request)
        return answer(self.page) if request.method in self.paged else response


def run(leases: Leases, body: Callable[[Client], Awaitable[Any]], **how: Any) -> Any:
    async def inner() -> Any:
        async with serving(leases.handle) as url:
            # By its address: a name is looked up by a thread, which the clock would not wait for.
            address = url.replace("localhost", "127.0.0.1")
            async with client_of(address, **how) as client:
                return await body(client)

    clock = Jumping()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "monotonic", lambda: clock.now_s)  # that of the loop too
        patch.setattr(time, "sleep", clock.sleep)
        with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(clock)) as runner:
            return runner.run(inner())


def test_lease_must_be_made_where_there_is_none_and_be_renewed() -> None:
    leases = Leases()

    async def body(client: Client) -> None:
        lease = Lease(client, settings("me"))
        assert not lease.may_write()
        await asyncio.wait_for(lease.acquire(), 2)
        assert lease.may_write()
        made = leases.version
        holding = asyncio.create_task(lease.hold())
        await until(lambda: leases.version >= made + 3)
        assert lease.may_write()
        holding.cancel()

    run(leases, body)
    assert leases.record is not None
    spec = leases.record["spec"]
    assert (spec["holderIdentity"], spec["leaseDurationSeconds"], spec["leaseTransitions"]) == ("me", 1, 0)


@pytest.mark.parametrize(("duration_s", "recorded"), [(15.0, 15), (1.4, 2), (10.2, 11), (0.3, 1)])
def test_recorded_duration_never_is_shorter_than_the_one_counted_on(duration_s: float, recorded: int) -> None:
    leases = Leases()

    async def body(client: Client) -> None:
        await Lease(client, attrs.evolve(settings("me"), duration_s=duration_s)).acquire()

    run(leases, body)
    assert leases.record is not None
    assert leases.record["spec"]["leaseDurationSeconds"] == recorded


def test_lease_of_another_never_is_taken_while_it_is_renewed() -> None:
    leases = Leases()
    leases.renew("other", 1)

    async def body(client: Client) -> None:
        lease = Lease(client, settings("me"))
        acquiring = asyncio.create_task(lease.acquire())
        for _ in range(7):
            await asyncio.sleep(0.18)
            leases.renew("other", 1)
        assert not acquiring.done()
        assert not lease.may_write()
        silent_s = time.monotonic()
        await asyncio.wait_for(acquiring, 3)
        assert time.monotonic() - silent_s >= 0.9
        acquiring.cancel()

    run(leases, body)
    assert leases.holder == "me"
    assert leases.record is not None
    assert leases.record["spec"]["leaseTransitions"] == 1


def test_age_of_a_lease_never_is_taken_from_its_clock() -> None:
    leases = Leases()
    leases.renew("other", 1)
    assert leases.record is not None
    leases.record["spec"]["renewTime"] = "2001-01-01T00:00:00.000000Z"  # a clock that is wrong

    async def body(client: Client) -> float:
        began_s = time.monotonic()
        await asyncio.wait_for(Lease(client, settings("me")).acquire(), 3)
        return time.monotonic() - began_s

    assert run(leases, body) >= 1.0


def test_lease_that_was_given_back_must_be_taken_at_once() -> None:
    leases = Leases()

    async def body(client: Client) -> float:
        first = Lease(client, settings("first"))
        await first.acquire()
        await first.release()
        assert not first.may_write()
        assert leases.holder == ""
        began_s = time.monotonic()
        await Lease(client, settings("second")).acquire()
        return time.monotonic() - began_s

    assert run(leases, body) < 0.3
    assert leases.holder == "second"


def test_lease_must_be_lost_when_it_cannot_be_renewed() -> None:
    leases = Leases()

    async def body(client: Client) -> None:
        lease = Lease(client, settings("me"))
        await lease.acquire()
        leases.fails = lambda _: True
        began_s = time.monotonic()
        await asyncio.wait_for(lease.hold(), 2)
        assert DEADLINE_S - 0.1 < time.monotonic() - began_s < DEADLINE_S + RETRY_S + 0.3
        assert not lease.may_write()

    run(leases, body)


def test_lease_must_be_lost_by_the_deadline_when_the_server_hangs() -> None:
    leases = Leases()

    async def body(client: Client) -> None:
        lease = Lease(client, attrs.evolve(settings("me"), renew_deadline_s=0.2))
        await lease.acquire()
        leases.delay_s = 30.0
        began_s = time.monotonic()
        await asyncio.wait_for(lease.hold(), 2)
        assert time.monotonic() - began_s < 0.45  # no request has as little time
        assert not lease.may_write()

    run(leases, body)


def test_lease_that_another_has_taken_must_be_lost_at_once() -> None:
    leases = Leases()

    async def body(client: Client) -> None:
        lease = Lease(client, settings("me"))
        await lease.acquire()
        leases.renew("other")
        began_s = time.monotonic()
        await asyncio.wait_for(lease.hold(), 2)
        assert time.monotonic() - began_s < 3 * RETRY_S + 0.1
        assert not lease.may_write()
        await lease.release()

    run(leases, body)
    assert leases.holder == "other"


def test_holder_that_was_stopped_never_may_write_when_it_goes_on() -> None:
    leases = Leases()

    async def body(client: Client) -> None:
        lease = Lease(client, settings("me"))
        await lease.acquire()
        holding = asyncio.create_task(lease.hold())
        await asyncio.sleep(2 * RETRY_S)
        assert lease.may_write()
        time.sleep(DEADLINE_S + 0.1)  # as SIGSTOP does: no task runs
        assert not lease.may_write()
        await asyncio.wait_for(holding, 1)

    run(leases, body)


def test_failures_shorter_than_the_deadline_never_lose_the_lease() -> None:
    leases = Leases()

    async def body(client: Client) -> None:
        lease = Lease(client, settings("me"))
        await lease.acquire()
        holding = asyncio.create_task(lease.hold())
        leases.fails = lambda _: True
        await asyncio.sleep(DEADLINE_S / 2)
        leases.fails = lambda _: False
        await asyncio.sleep(DEADLINE_S)
        assert lease.may_write()
        assert not holding.done()
        holding.cancel()

    run(leases, body)


@pytest.mark.parametrize(("during", "before"), [("POST", ""), ("PUT", "renew"), ("PUT", "take")])
def test_lease_must_be_given_back_when_the_answer_was_not_waited_for(during: str, before: str) -> None:
    leases = Leases()
    if before == "take":
        leases.renew("")

    async def body(client: Client) -> None:
        lease = Lease(client, settings("me"))
        if before == "renew":
            await lease.acquire()
            leases.asked.clear()
        leases.delay_s = 0.2
        work = asyncio.create_task(lease.hold() if before == "renew" else lease.acquire())
        await until(lambda: leases.asked[-1:] == [during])
        await asyncio.sleep(0.02)  # the server has written, and not answered
        work.cancel()
        with suppress(asyncio.CancelledError):
            await work
        leases.delay_s = 0.0
        assert leases.holder == "me"
        await lease.release()

    run(leases, body)
    assert leases.holder == ""


def test_release_never_takes_long_nor_asks_for_what_was_never_ours() -> None:
    leases = Leases()
    leases.renew("other")

    async def body(client: Client) -> None:
        never = Lease(client, settings("never"))
        await never.release()
        assert leases.asked == []
        leases.record = None
        held = Lease(client, settings("held"))
        await held.acquire()
        leases.delay_s = 30.0
        began_s = time.monotonic()
        await held.release()
        assert time.monotonic() - began_s < 1.3

    run(leases, body)


def test_lease_must_be_renewed_although_other_requests_wait_for_their_rate() -> None:
    leases = Leases()

    async def body(client: Client) -> None:
        lease = Lease(client, settings("me"))
        await lease.acquire()
        busy = [asyncio.create_task(client.request("GET", "/busy")) for _ in range(50)]
        holding = asyncio.create_task(lease.hold())
        await asyncio.sleep(2 * DEADLINE_S)
        assert not holding.done()
        for task in (*busy, holding):
            task.cancel()

    run(leases, body, qps=5.0, burst=1)


def test_what_stands_in_the_way_must_be_said_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    leases = Leases()
    leases.renew("other")

    async def body(client: Client) -> None:
        acquiring = asyncio.create_task(Lease(client, settings("me")).acquire())
        await asyncio.sleep(0.4)
        leases.fails = lambda _: True
        await asyncio.sleep(0.4)
        acquiring.cancel()

    run(leases, body)
    assert [record.message for record in caplog.records] == [
        "other leads: standing by",
        "cannot read the lease lease: no",
    ]
    assert [record.levelno for record in caplog.records] == [logging.INFO, logging.WARNING]


def test_lease_that_cannot_be_had_must_be_said_again_from_time_to_time(
    caplog: pytest.LogCaptureFixture,
) -> None:
    leases = Leases(fails=lambda _: True)

    async def body(client: Client) -> None:
        acquiring = asyncio.create_task(
            Lease(client, attrs.evolve(settings("me"), retry_period_s=50.0)).acquire()
        )
        await asyncio.sleep(1400)
        acquiring.cancel()

    run(leases, body)
    assert [record.getMessage() for record in caplog.records] == ["cannot read the lease lease: no"] * 3


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("refused", "cannot read the lease lease: no"),
        ("taken", "other leads: standing by"),
        ("hung", "cannot read the lease lease: no answer within 0.5 s"),
        ("stopped", "it was not renewed in time"),
    ],
)
def test_lease_that_is_lost_must_be_said_with_the_reason(
    caplog: pytest.LogCaptureFixture, how: str, words: str
) -> None:
    leases = Leases()

    async def body(client: Client) -> None:
        lease = Lease(client, settings("me"))
        await lease.acquire()
        if how == "taken":
            leases.renew("other")
        leases.fails = lambda _: how == "refused"
        leases.delay_s = 30.0 if how == "hung" else 0.0
        if how == "stopped":
            time.sleep(DEADLINE_S)
        await asyncio.wait_for(lease.hold(), 2)

    run(leases, body)
    lost = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert lost == [f"the lease lease is lost: {words}"]


class Stubborn(Client):
    """Once it hangs, a request cannot be cancelled; it is answered when that is over."""

    hangs: asyncio.Event | None = None

    async def request(self, *what: Any, **how: Any) -> Any:
        while self.hangs is not None and not self.hangs.is_set():
            with suppress(asyncio.CancelledError):
                await self.hangs.wait()
        return await super().request(*what, **how)


def test_renewal_that_cannot_be_cancelled_never_holds_up_the_loss_nor_undoes_it() -> None:
    leases = Leases()

    async def body(client: Client) -> None:
        lease = Lease(client, settings("me"))
        await lease.acquire()
        assert isinstance(client, Stubborn)
        client.hangs = asyncio.Event()
        began_s = time.monotonic()
        await asyncio.wait([asyncio.create_task(lease.hold())], timeout=2)
        took_s = time.monotonic() - began_s
        client.hangs.set()
        await asyncio.sleep(5 * RETRY_S)
        assert took_s < DEADLINE_S + 0.1
        assert leases.asked[-1] == "PUT"  # the renewal has gone on, once
        assert not lease.may_write()
        asked = len(leases.asked)
        await asyncio.sleep(5 * RETRY_S)
        assert len(leases.asked) == asked

    run(leases, body, kind=Stubborn)


PAGES = [
    {"status": "maintenance"},
    {"kind": "Status", "status": "Success", "metadata": {}},
    {"kind": "Lease", "metadata": {"name": "lease"}, "spec": {"holderIdentity": "me"}},
    {
        "kind": "Lease",
        "metadata": {"name": "other", "resourceVersion": "1"},
        "spec": {"holderIdentity": "me"},
    },
    {"kind": "Lease", "metadata": "x", "spec": {"holderIdentity": "me"}},
]


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("paged", [("GET", "PUT"), ("GET",), ("PUT",)])
def test_page_of_a_gateway_never_renews_the_lease(
    page: object, paged: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    leases = Paged(page=page)

    async def body(client: Client) -> None:
        lease = Lease(client, settings("me"))
        await lease.acquire()
        leases.paged = paged
        await asyncio.wait_for(lease.hold(), 2)
        assert not lease.may_write()

    run(leases, body)
    verb = "read" if "GET" in paged else "renew"
    assert f"cannot {verb} the lease lease: the answer is no such Lease" in caplog.text


@pytest.mark.parametrize("paged", ["POST", "PUT"])
@pytest.mark.parametrize(
    "page", [*PAGES, {"kind": "Lease", "metadata": {"name": "lease", "resourceVersion": "9"}}]
)
def test_page_of_a_gateway_never_gives_the_lease(paged: str, page: object) -> None:
    leases = Paged(page=page, paged=(paged,), fails=lambda method: method == paged)
    if paged == "PUT":
        leases.renew("")

    async def body(client: Client) -> None:
        lease = Lease(client, settings("me"))
        acquiring = asyncio.create_task(lease.acquire())
        await until(lambda: leases.asked.count(paged) > 2)
        assert not acquiring.done()
        assert not lease.may_write()
        acquiring.cancel()

    run(leases, body)


@pytest.mark.parametrize("paged", ["GET", "PUT"])
def test_page_of_a_gateway_never_counts_as_the_lease_given_back(paged: str) -> None:
    leases = Paged(page={"status": "maintenance"})

    async def body(client: Client) -> None:
        lease = Lease(client, settings("me"))
        await lease.acquire()
        leases.paged, leases.fails = (paged,), lambda method: method == paged
        leases.asked.clear()
        releasing = asyncio.create_task(lease.release())
        await until(lambda: leases.asked.count(paged) > 2)
        leases.paged, leases.fails = (), lambda _: False
        await releasing

    run(leases, body)
    assert leases.holder == ""


@pytest.mark.parametrize(
    "spec",
    [
        "x",
        {"holderIdentity": "other", "leaseDurationSeconds": "abc"},
        {"holderIdentity": "other", "leaseDurationSeconds": [1]},
        {"holderIdentity": "other", "leaseDurationSeconds": 1e300},
        {"holderIdentity": ["other"], "leaseTransitions": {}},
        {"holderIdentity": "", "leaseTransitions": "abc"},
        {"holderIdentity": "me", "leaseTransitions": -1, "acquireTime": 7},
    ],
)
def test_record_that_makes_no_sense_must_be_taken_once_it_has_ended(spec: object) -> None:
    leases = Leases()
    leases.put({"kind": "Lease", "metadata": {"name": "lease"}, "spec": spec})

    async def body(client: Client) -> None:
        await asyncio.wait_for(Lease(client, settings("me")).acquire(), 2)

    run(leases, body)
    assert leases.record is not None
    assert leases.record["spec"]["leaseTransitions"] in (0, 1)
    assert isinstance(leases.record["spec"]["acquireTime"], str)
