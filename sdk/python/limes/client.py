"""Edges and services: they stay connected, and bring their names along."""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from . import codec
from .errors import CallError, ConnectError, Failed
from .link import GoneAway, Link

#: After these, said before the welcome, a client does not come back by itself (3.6).
FOR_GOOD = {codec.CODES[name] for name in ("AUTH", "VERSION", "REFUSED", "PROTOCOL", "TOO_LARGE")}
#: After these, said to an open session, neither (3.6).
OVER = {codec.CODES[name] for name in ("REPLACED", "KICKED")}
#: After these the client opens another session first, and leaves then (3.6).
LEAVE = {codec.CODES[name] for name in ("DRAINING", "ISOLATED")}
#: How long one address may take, from the dial to the restored names.
ATTEMPT = 6.0
#: How long to look for another node while the old connection still stands.
MOVE = 60.0
PAUSE, PAUSE_MAX = 0.05, 5.0
#: Errors after which names are brought to the next connection all the same; after any other the cluster has said no.
PASSING = {codec.CODES[name] for name in ("GONE", "TIMEOUT", "CANCELLED", "NO_QUORUM", "ISOLATED", "DRAINING")}
LOG = logging.getLogger("limes")


@dataclass
class Call:
    """A call to be answered."""

    peer: int
    method: str
    body: bytes
    deadline: float


@dataclass
class Message:
    """A message: it is acknowledged when its handler returns, and refused if that raises."""

    peer: int
    topic: str
    body: bytes


CallHandler = Callable[[Call], Awaitable[bytes]]
MessageHandler = Callable[[Message], Awaitable[None]]


class _Client:
    """What an edge and a service have in common."""

    def __init__(self, role, addresses, name, meta, instance, ticket, keepalive, tls, server_name) -> None:
        given = [addresses] if isinstance(addresses, str) else list(addresses)
        if not given:
            raise ConnectError("no address was given")
        self.role, self.given, self.learned = role, given, []
        self.name, self.meta, self.instance, self.ticket = name, meta, instance, ticket
        self.keepalive, self.tls, self.server_name = keepalive, tls, server_name
        self.turn = random.randrange(len(given))
        self.methods: dict[str, CallHandler] = {}
        self.topics: dict[str, MessageHandler] = {}
        self.id = 0
        self.node = ""
        self.link: Link | None = None
        self.up, self.over = asyncio.Event(), asyncio.Event()
        self.why_over: ConnectError | None = None
        self.keeper: asyncio.Task | None = None
        self.others: set[asyncio.Task] = set()
        # Whether a task looks for a node already.
        self.seeking = False

    # Connecting.

    def _next_address(self) -> str:
        self.turn += 1
        known = self.given + self.learned
        return known[self.turn % len(known)]

    def _learn(self, peers: list[str]) -> None:
        if peers:
            self.learned = [peer for peer in peers if peer not in self.given]

    async def _attempt(self, moving: bool) -> None:
        hello = codec.Hello(
            self.role, self.keepalive, moving, None, self.instance, self.name, self.ticket, self.meta
        )
        link = await Link.open(self, self._next_address(), hello, self.tls)
        try:
            await self._restore(link)
            if link.closed.is_set() or link.leaving is not None:
                self._learn(link.leaving.peers if link.leaving is not None else [])
                raise ConnectionError("this node is leaving")
        except BaseException:
            await link.close()
            raise
        self._learn(link.welcome.peers)
        self.ticket = link.welcome.ticket or self.ticket
        self.id, self.node = link.welcome.id, link.welcome.node
        self.link = link
        self.up.set()

    async def _restore(self, link: Link) -> None:
        """Tells a new connection what this service offers and takes."""

    async def _connect(self, moving: bool, within: float | None = None) -> None:
        """Tries until it works, is refused for good, or the time is up."""
        end = None if within is None else time.monotonic() + within
        pause, untried, last = PAUSE, len(self.given), None
        while True:
            left = None if end is None else max(0.0, end - time.monotonic())
            # One that says nothing leaves the others their share of the time.
            share = ATTEMPT if left is None else min(ATTEMPT, left / max(untried, 1))
            untried, before = untried - 1, last
            try:
                async with asyncio.timeout(share):
                    return await self._attempt(moving)
            except GoneAway as gone:
                self._learn(gone.goaway.peers)
                if gone.goaway.code in FOR_GOOD:
                    raise ConnectError(f"refused: {gone}", gone.goaway.code) from None
                last = str(gone)
            except (OSError, TimeoutError, CallError, codec.ProtocolError) as error:
                last = str(error) or "no welcome in time"
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                # Why the one before failed says more than that the time was up in the midst of this one.
                raise ConnectError(f"no node of the cluster could be reached in time; last: {before or last}")
            # Full jitter: drawn from nothing to the bound, which doubles.
            drawn = random.uniform(0, pause)
            await asyncio.sleep(drawn if left is None else min(drawn, left))
            pause = min(2 * pause, PAUSE_MAX)

    def _told(self, link: Link, goaway: codec.GoAway) -> None:
        """A go-away on an open session."""
        if link is not self.link:
            return
        self._learn(goaway.peers)
        if goaway.code in LEAVE:
            self._seek()

    def _lost(self, link: Link) -> None:
        if link is not self.link or self.over.is_set():
            return
        self.up.clear()
        self.link = None
        if link.leaving is not None and link.leaving.code in OVER:
            self._finish(ConnectError(f"closed by the cluster: {link.leaving.text}", link.leaving.code))
        else:
            self._seek()

    def _seek(self) -> None:
        """Looks for another node. One search at a time: a second connection with the same id would replace the
        first, and end what is in flight on it."""
        if not self.seeking and not self.over.is_set():
            self.seeking = True
            self._in_background(self._find())

    async def _find(self) -> None:
        try:
            while True:
                old = self.link
                try:
                    # Opens elsewhere first, then leaves: no call fails by it.
                    await self._connect(moving=old is not None, within=MOVE if old is not None else None)
                    break
                except ConnectError as error:
                    if self.link is not None:
                        return
                    if old is None:
                        self._finish(error)
                        return
        finally:
            self.seeking = False
        if old is not None:
            await old.finish()

    def _in_background(self, work) -> None:
        task = asyncio.create_task(work)
        self.others.add(task)
        task.add_done_callback(self.others.discard)

    def _finish(self, why: ConnectError | None) -> None:
        self.why_over = why
        self.over.set()
        self.up.clear()

    async def _ready(self, end: float) -> Link:
        """The connection in use; waits for one."""
        while True:
            if self.over.is_set():
                text = str(self.why_over) if self.why_over else "this client was closed"
                raise CallError("CANCELLED", codec.NO, text)
            if self.link is not None and not self.link.closed.is_set():
                return self.link
            waits = [asyncio.create_task(self.up.wait()), asyncio.create_task(self.over.wait())]
            try:
                left = end - time.monotonic()
                done, _ = await asyncio.wait(waits, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()
            if not done:
                raise CallError("GONE", codec.NO, "not connected to the cluster")

    # Asking.

    async def _request(self, kind: int, peer: int, name: str, body: bytes, timeout: float) -> bytes:
        """Sends a call or message. What certainly was not run is sent again, within the deadline."""
        if len(name.encode()) > codec.NAME_MAX or len(body) > codec.BODY_MAX:
            raise CallError("TOO_LARGE", codec.NO, "the name or the body is over its limit")
        end = time.monotonic() + timeout
        while True:
            link = await self._ready(end)
            if len(body) > link.welcome.max_body:
                # It would cost the connection, and with it all that is in flight (9.2).
                text = f"a body of {len(body)} bytes is over the cluster's limit of {link.welcome.max_body}"
                raise CallError("TOO_LARGE", codec.NO, text)
            left = end - time.monotonic()
            if left <= 0:
                raise CallError("TIMEOUT", codec.NO, "no answer within the deadline")
            number = link.next_number()
            request = codec.Request(kind, number, int(left * 1000), peer, name, body)
            try:
                # The gateway keeps the deadline; one that does not answer is given a little longer.
                outcome = await link.ask(number, request.encode(), left + 0.5)
                if outcome.code == 0:
                    return outcome.body
                raise CallError(outcome.code, outcome.ran, outcome.text)
            except CallError as error:
                passing = error.code in (codec.CODES["DRAINING"], codec.CODES["GONE"])
                if error.may_have_run or not passing or time.monotonic() >= end:
                    raise
            await asyncio.sleep(0.01)

    # Answering.

    async def _answer(self, request: codec.Request) -> codec.Outcome:
        """Runs the handler: an outcome in every case."""
        number, is_call = request.number, request.kind == codec.CALL

        def failed(code: str, ran: int, text: str) -> codec.Outcome:
            return codec.Outcome(codec.ERROR, number, codec.CODES[code], ran, text)

        handler = (self.methods if is_call else self.topics).get(request.name)
        if handler is None and not is_call:
            handler = self.topics.get("")
        if handler is None:
            return failed("NO_METHOD" if is_call else "NO_SERVICE", codec.NO, f"nobody here takes {request.name!r}")
        limit = asyncio.timeout(request.deadline / 1000)
        try:
            async with limit:
                if is_call:
                    call = Call(request.peer, request.name, request.body, request.deadline / 1000)
                    return codec.Outcome(codec.REPLY, number, body=bytes(await handler(call)))
                await handler(Message(request.peer, request.name, request.body))
                return codec.Outcome(codec.ACK, number)
        except Exception as error:  # A handler's own error is an answer.
            if limit.expired():
                return failed("TIMEOUT", codec.MAYBE, "the deadline passed before the handler was done")
            text = str(error) if isinstance(error, Failed) else f"{type(error).__name__}: {error}"
            return failed("APPLICATION", codec.YES, text)

    async def close(self) -> None:
        """Says good-bye; the client does not come back."""
        self._finish(None)
        link, self.link = self.link, None
        if link is not None:
            await link.close()
        for task in list(self.others):
            task.cancel()


class Edge(_Client):
    """A connected edge."""

    async def call(self, method: str, body: bytes = b"", timeout: float = 30.0) -> bytes:
        """Calls a method that some service offers. Raises CallError."""
        return await self._request(codec.CALL, 0, method, body, timeout)

    async def publish(self, topic: str, body: bytes = b"", timeout: float = 30.0) -> None:
        """Sends a message to a service that takes the topic; returns when it has been acknowledged."""
        await self._request(codec.MESSAGE, 0, topic, body, timeout)

    def handle(self, method: str, handler: CallHandler) -> None:
        """Answers a method that services call."""
        self.methods[method] = handler

    def receive(self, handler: MessageHandler, topic: str = "") -> None:
        """Takes messages of a topic, or of all that have no handler of their own."""
        self.topics[topic] = handler


class Service(_Client):
    """A connected service."""

    async def _restore(self, link: Link) -> None:
        for kind, names in ((codec.REGISTER, list(self.methods)), (codec.SUBSCRIBE, list(self.topics))):
            await self._offer(link, kind, names)

    async def _offer(self, link: Link, kind: int, names: list[str]) -> None:
        """Offers as many names as the gateway takes: a client that insisted on all of them would have no
        connection for as long as the limit stands."""
        at, most = 0, codec.NAMES_MAX
        while at < len(names):
            some = names[at : at + most]
            try:
                await self._tell(link, kind, some, 10.0)
                at += len(some)
            except CallError as error:
                if error.code != codec.CODES["LIMIT"]:
                    raise
                if len(some) == 1:
                    LOG.warning("the cluster takes no more than %d of %d names: %s", at, len(names), error.text)
                    return
                most = len(some) // 2

    async def _tell(self, link: Link, kind: int, names: list[str], timeout: float) -> None:
        number = link.next_number()
        outcome = await link.ask(number, codec.Names(kind, number, names).encode(), timeout)
        if outcome.code != 0:
            raise CallError(outcome.code, codec.NO, outcome.text)

    async def _add(self, kind: int, names: dict, name: str, handler) -> None:
        """Notes a name, and forgets it again if the cluster says no to it."""
        self._check(name)
        before = names.get(name)
        names[name] = handler
        try:
            await self._change(kind, name)
        except CallError as error:
            if error.code not in PASSING:
                if before is None:
                    names.pop(name, None)
                else:
                    names[name] = before
            raise

    @staticmethod
    def _check(name: str) -> None:
        """A name that is too long would cost the connection, and each later one."""
        if len(name.encode()) > codec.NAME_MAX:
            raise CallError("TOO_LARGE", codec.NO, f"a name is over the limit of {codec.NAME_MAX} bytes")

    async def _change(self, kind: int, name: str) -> None:
        self._check(name)
        end = time.monotonic() + 30.0
        while True:
            link = await self._ready(end)
            try:
                return await self._tell(link, kind, [name], end - time.monotonic())
            except CallError as error:
                # A new connection brings all names along; saying them twice does no harm.
                if error.code != codec.CODES["GONE"] or time.monotonic() >= end:
                    raise
            await asyncio.sleep(0.01)

    async def register(self, method: str, handler: CallHandler) -> None:
        """Offers a method; when this returns every node routes calls of it here. Raises CallError: if the cluster
        said no, as past `limits.names`, the method is not offered; if it did not agree in time, the method is
        offered as soon as it does."""
        await self._add(codec.REGISTER, self.methods, method, handler)

    async def withdraw(self, method: str) -> None:
        """Offers it no longer."""
        self.methods.pop(method, None)
        await self._change(codec.WITHDRAW, method)

    async def subscribe(self, topic: str, handler: MessageHandler) -> None:
        """Takes messages of a topic."""
        await self._add(codec.SUBSCRIBE, self.topics, topic, handler)

    async def unsubscribe(self, topic: str) -> None:
        """Takes them no longer."""
        self.topics.pop(topic, None)
        await self._change(codec.UNSUBSCRIBE, topic)

    async def call(self, edge: int, method: str, body: bytes = b"", timeout: float = 30.0) -> bytes:
        """Calls a method of an edge, wherever it is connected. Raises CallError."""
        return await self._request(codec.CALL, edge, method, body, timeout)

    async def publish(self, edge: int, topic: str, body: bytes = b"", timeout: float = 30.0) -> None:
        """Sends a message to an edge; returns when it has been acknowledged."""
        await self._request(codec.MESSAGE, edge, topic, body, timeout)


async def connect_edge(
    addresses: str | list[str],
    *,
    meta: bytes = b"",
    ticket: bytes = b"",
    keepalive: float = 0.0,
    tls: ssl.SSLContext | None = None,
    server_name: str | None = None,
    timeout: float = 10.0,
) -> Edge:
    """Connects an edge to the first node that takes it. Raises ConnectError."""
    edge = Edge(codec.EDGE, addresses, "", meta, b"", ticket, int(keepalive * 1000), tls, server_name)
    await edge._connect(moving=False, within=timeout)
    return edge


async def connect_service(
    name: str,
    addresses: str | list[str],
    *,
    meta: bytes = b"",
    instance: bytes = b"",
    keepalive: float = 0.0,
    tls: ssl.SSLContext | None = None,
    server_name: str | None = None,
    timeout: float = 10.0,
) -> Service:
    """Connects a service to the first node that takes it. Raises ConnectError."""
    service = Service(
        codec.SERVICE, addresses, name, meta, instance, b"", int(keepalive * 1000), tls, server_name
    )
    await service._connect(moving=False, within=timeout)
    return service
