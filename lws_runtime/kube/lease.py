"""Leader election by a Lease: at most one process acts.

As client-go's leaderelection does it: time is counted from when a change of the record was seen, by a
monotonic clock, so that clocks of different machines need not agree. A holder that could not renew for
`renew_deadline_s` counts as having lost; `may_write` says so before each write, whatever the tasks are
doing: a process that was stopped past its lease and goes on writes nothing more. Requests about the lease
wait behind no others for the rate that is allowed, and each has half the deadline at most.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from datetime import UTC, datetime
from typing import Any

import attrs
import orjson

from .client import Answer, Client
from .plugin import NoCluster
from .reflector import REMIND_S
from .resources import shown_in

_log = logging.getLogger(__name__)


@attrs.frozen
class LeaseSettings:
    """Name and times of a lease. duration > renew deadline > retry period, in seconds."""

    namespace: str
    name: str
    identity: str
    duration_s: float = 15.0
    renew_deadline_s: float = 10.0
    retry_period_s: float = 2.0


class Lease:
    """One process's view of a lease."""

    def __init__(self, client: Client, settings: LeaseSettings) -> None:
        self._client, self._settings = client, settings
        self._path = f"/apis/coordination.k8s.io/v1/namespaces/{settings.namespace}/leases"
        self._seen: dict[str, Any] = {}
        self._seen_at_s = 0.0
        self._renewed_at_s = -1e9
        self._told, self._told_at_s = "", 0.0
        self._distrust = ""
        self._has_asked = False
        self._is_over = False  # a renewal that is under way then makes it ours no more

    def may_write(self) -> bool:
        """Whether this process holds the lease now, as far as anybody can know."""
        left_s = self._settings.renew_deadline_s - (time.monotonic() - self._renewed_at_s)
        return left_s > 0 and not self._is_over

    async def acquire(self) -> None:
        """Wait until the lease is ours. Raises NoCluster where the server is not trusted any more: only the
        next process reads the authority again, and this one could never lead."""
        while not await self._try():
            if self._distrust:
                raise NoCluster(f"the API server's certificate is not trusted any more: {self._distrust}")
            await asyncio.sleep(self._settings.retry_period_s * random.uniform(1.0, 1.2))
        _log.info("leading as %s", self._settings.identity)

    async def hold(self) -> None:
        """Renew until the lease is lost; returns then, whatever an attempt still waits for."""
        renewing = asyncio.create_task(self._renew())
        try:
            while self.may_write() and not renewing.done():
                left_s = self._settings.renew_deadline_s - (time.monotonic() - self._renewed_at_s)
                await asyncio.wait([renewing], timeout=left_s)
            if renewing.done():
                renewing.result()
        finally:
            renewing.cancel()
        self._is_over = True
        _log.error(
            "the lease %s is lost: %s", self._settings.name, self._told or "it was not renewed in time"
        )

    async def _renew(self) -> None:
        while self.may_write():
            await asyncio.sleep(self._settings.retry_period_s)
            await self._try()

    async def release(self, at_most_s: float = 1.0) -> None:
        """Give the lease back, so that another process need not wait for it to end.

        A write whose answer was not waited for may have made it ours, so it is read before.
        """
        self._is_over = True
        if not self._has_asked:
            return
        try:
            async with asyncio.timeout(at_most_s):
                while not await self._give_back():
                    await asyncio.sleep(0.05)
        except TimeoutError:
            _log.warning("the lease %s could not be given back", self._settings.name)

    async def _give_back(self) -> bool:
        """Whether the lease is surely not ours, or not any more."""
        answer = await self._request("GET", self._settings.name)
        record = self._shown_by(answer)
        if record is None:
            return answer.code == 404
        if not self._is_ours(record):
            return True
        now = _now()
        changed = {"holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": now, "acquireTime": now}
        released = {**record, "spec": {**_spec(record), **changed}}
        after = self._shown_by(await self._request("PUT", self._settings.name, released))
        return after is not None and not self._is_ours(after)

    async def _try(self) -> bool:
        """One attempt to get or renew the lease; whether it is ours."""
        asked_at_s = time.monotonic()
        answer = await self._request("GET", self._settings.name)
        if answer.code == 404:
            return await self._create(asked_at_s)
        record = self._shown_by(answer)
        if record is None:
            self._warn(f"cannot read the lease {self._settings.name}: {_words(answer)}")
            return False
        if record.get("spec") != self._seen.get("spec"):
            self._seen_at_s = time.monotonic()
        self._seen = record
        if not self._is_ours(record) and not self._has_ended(record):
            self._renewed_at_s = -1e9
            standing_by = f"{_spec(record).get('holderIdentity')} leads: standing by"
            if standing_by != self._told:
                _log.info("%s", standing_by)
            self._told = standing_by
            return False
        return await self._take(record, asked_at_s)

    async def _create(self, asked_at_s: float) -> bool:
        body = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self._settings.name, "namespace": self._settings.namespace},
            "spec": self._new_spec({}),
        }
        self._has_asked = True
        answer = await self._request("POST", "", body)
        return self._won("create", answer, asked_at_s)

    async def _take(self, record: dict[str, Any], asked_at_s: float) -> bool:
        changed = {**record, "spec": self._new_spec(_spec(record))}
        self._has_asked = True
        answer = await self._request("PUT", self._settings.name, changed)
        return self._won("renew" if self._is_ours(record) else "take", answer, asked_at_s)

    async def _request(self, method: str, name: str, record: dict[str, Any] | None = None) -> Answer:
        answer = await self._client.request(
            method,
            f"{self._path}/{name}" if name else self._path,
            body=None if record is None else orjson.dumps(record),
            timeout_s=max(0.5, self._settings.renew_deadline_s / 2),
            at_once=True,
        )
        self._distrust = answer.message if answer.distrusted else ""
        return answer

    def _won(self, verb: str, answer: Answer, asked_at_s: float) -> bool:
        """Note the answer to a write that makes or keeps the lease ours; whether it does."""
        record = self._shown_by(answer)
        if record is None or not self._is_ours(record):
            words = _words(answer) if record is None else "the answer names another holder"
            self._warn(f"cannot {verb} the lease {self._settings.name}: {words}")
            return False
        self._seen, self._seen_at_s = record, time.monotonic()
        self._renewed_at_s = asked_at_s  # the server's clock started no later than the request was sent
        self._told = ""
        return True

    def _shown_by(self, answer: Answer) -> dict[str, Any] | None:
        """The lease in an answer; None where it has none: a gateway's page that is taken for the lease would
        make a second leader."""
        return shown_in(answer.json(), "Lease", self._settings.name) if answer.ok else None

    def _new_spec(self, before: dict[str, Any]) -> dict[str, Any]:
        ours = before.get("holderIdentity") == self._settings.identity
        acquired = before.get("acquireTime")
        changes = _int32(before.get("leaseTransitions"), 0)
        return {
            "holderIdentity": self._settings.identity,
            # Never less than we count on: others believe the record, which holds whole seconds.
            "leaseDurationSeconds": max(1, math.ceil(self._settings.duration_s)),
            "acquireTime": acquired if ours and isinstance(acquired, str) else _now(),
            "renewTime": _now(),
            "leaseTransitions": changes if ours or not before else changes + 1,
        }

    def _is_ours(self, record: dict[str, Any]) -> bool:
        return _spec(record).get("holderIdentity") == self._settings.identity

    def _has_ended(self, record: dict[str, Any]) -> bool:
        spec = _spec(record)
        if not spec.get("holderIdentity"):
            return True
        duration_s = _int32(spec.get("leaseDurationSeconds"), self._settings.duration_s)
        return time.monotonic() - self._seen_at_s > duration_s

    def _warn(self, text: str) -> None:
        """Tell a trouble, and again from time to time while it lasts."""
        now_s = time.monotonic()
        if text != self._told or now_s - self._told_at_s >= REMIND_S:
            _log.warning("%s", text)
            self._told_at_s = now_s
        self._told = text


def _spec(record: dict[str, Any]) -> dict[str, Any]:
    spec = record.get("spec")
    return spec if isinstance(spec, dict) else {}


def _int32(value: object, otherwise: float) -> float:
    """A number of a record; `otherwise` where it is none that an API server would store, or 0."""
    return value if type(value) is int and 0 < value < 2**31 else otherwise


def _words(answer: Answer) -> str:
    """Why an answer shows no lease."""
    return "the answer is no such Lease" if answer.ok else answer.message


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
