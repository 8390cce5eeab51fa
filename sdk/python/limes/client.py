"""Edges and services: they stay connected, and restore their names on each new connection."""

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
from .link import Link, NotWelcomed

#: Codes of a go-away before the welcome after which a client does not reconnect (3.6).
FINAL = {codec.CODES[name] for name in ("AUTH", "VERSION", "REFUSED", "PROTOCOL", "TOO_LARGE")}
#: Codes of a go-away to an open session after which a client does not reconnect (3.6).
CLOSING = {codec.CODES[name] for name in ("REPLACED", "KICKED")}
#: Codes of a go-away after which a client opens another session first, and then leaves (3.6).
MOVE_FIRST = {codec.CODES[name] for name in ("DRAINING", "ISOLATED")}
#: Time limit of one address, from the dial to the restored names, in seconds.
ATTEMPT = 6.0
#: Time limit of the search for another node while the old connection is open, in seconds.
MOVE = 60.0
#: First and largest bound of the pauses between attempts, in seconds.
PAUSE, PAUSE_MAX = 0.05, 5.0
#: Pause before a request that certainly did not run is sent again, in seconds.
RETRY_PAUSE = 0.01
#: Errors after which a name is kept for the next connection; any other means that the cluster refused it.
TRANSIENT = {codec.CODES[name] for name in ("GONE", "TIMEOUT", "CANCELLED", "NO_QUORUM", "ISOLATED", "DRAINING")}
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
    """What edges and services share."""

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
        self.connected, self.closed = asyncio.Event(), asyncio.Event()
        # Why the cluster closed this client, if it did.
        self.close_reason: ConnectError | None = None
        self.tasks: set[asyncio.Task] = set()
        # Whether a task searches for a node already.
        self.searching = False

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
            if link.closed.is_set() or link.goaway is not None:
                self._learn(link.goaway.peers if link.goaway is not None else [])
                raise ConnectionError("this node is leaving")
        except BaseException:
            await link.close()
            raise
        self._learn(link.welcome.peers)
        self.ticket = link.welcome.ticket or self.ticket
        self.id, self.node = link.welcome.id, link.welcome.node
        self.link = link
        self.connected.set()

    async def _restore(self, link: Link) -> None:
        """Restores the names of a service on a new connection."""

    async def _connect(self, moving: bool, within: float | None = None) -> None:
        """Tries addresses in turn until one works, the cluster refuses for good, or the time is up."""
        end = None if within is None else time.monotonic() + within
        pause, untried, last = PAUSE, len(self.given), None
        while True:
            left = None if end is None else max(0.0, end - time.monotonic())
            # An address that does not answer leaves the others their share of the time.
            share = ATTEMPT if left is None else min(ATTEMPT, left / max(untried, 1))
            untried, before = untried - 1, last
            try:
                async with asyncio.timeout(share):
                    return await self._attempt(moving)
            except NotWelcomed as refusal:
                self._learn(refusal.goaway.peers)
                if refusal.goaway.code in FINAL:
                    raise ConnectError(f"refused: {refusal}", refusal.goaway.code) from None
                last = str(refusal)
            except (OSError, TimeoutError, CallError, codec.ProtocolError) as error:
                last = str(error) or "no welcome in time"
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                # This attempt was cut short by the time limit; the reason of the one before says more.
                raise ConnectError(f"no node of the cluster could be reached in time; last: {before or last}")
            # Full jitter: drawn between zero and a bound, which doubles.
            drawn = random.uniform(0, pause)
            await asyncio.sleep(drawn if left is None else min(drawn, left))
            pause = min(2 * pause, PAUSE_MAX)

    def _on_goaway(self, link: Link, goaway: codec.GoAway) -> None:
        """Handles a go-away on an open session."""
        if link is not self.link:
            return
        self._learn(goaway.peers)
        if goaway.code in MOVE_FIRST:
            self._start_search()

    def _on_closed(self, link: Link) -> None:
        """Handles the end of a connection."""
        if link is not self.link or self.closed.is_set():
            return
        self.connected.clear()
        self.link = None
        if link.goaway is not None and link.goaway.code in CLOSING:
            self._finish(ConnectError(f"closed by the cluster: {link.goaway.text}", link.goaway.code))
        else:
            self._start_search()

    def _start_search(self) -> None:
        """Searches for another node. One search at a time: a second connection with the same id would replace the
        first, and end what is in flight on it."""
        if not self.searching and not self.closed.is_set():
            self.searching = True
            self._in_background(self._search())

    async def _search(self) -> None:
        try:
            while True:
                old = self.link
                try:
                    # With an old connection: opens the new one first, so that no call fails.
                    await self._connect(moving=old is not None, within=MOVE if old is not None else None)
                    break
                except ConnectError as error:
                    if self.link is not None:
                        return
                    if old is None:
                        self._finish(error)
                        return
        finally:
            self.searching = False
        if old is not None:
            await old.finish()

    def _in_background(self, work) -> None:
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def _finish(self, why: ConnectError | None) -> None:
        self.close_reason = why
        self.closed.set()
        self.connected.clear()

    async def _ready(self, end: float) -> Link:
        """The connection in use; waits for one until `end`."""
        while True:
            if self.closed.is_set():
                text = str(self.close_reason) if self.close_reason else "this client was closed"
                raise CallError("CANCELLED", codec.NOT_STARTED, text)
            if self.link is not None and not self.link.closed.is_set():
                return self.link
            waits = [asyncio.create_task(self.connected.wait()), asyncio.create_task(self.closed.wait())]
            try:
                left = end - time.monotonic()
                done, _ = await asyncio.wait(waits, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()
            if not done:
                raise CallError("GONE", codec.NOT_STARTED, "not connected to the cluster")

    # Requests.

    async def _request(self, kind: int, peer: int, name: str, body: bytes, timeout: float) -> bytes:
        """Sends a call or message. A request that certainly did not run is sent again, within the deadline."""
        if len(name.encode()) > codec.NAME_MAX or len(body) > codec.BODY_MAX:
            raise CallError("TOO_LARGE", codec.NOT_STARTED, "the name or the body is over its limit")
        end = time.monotonic() + timeout
        while True:
            link = await self._ready(end)
            if len(body) > link.welcome.max_body:
                # Sending it would end the connection, with all that is in flight on it (9.2).
                text = f"a body of {len(body)} bytes is over the cluster's limit of {link.welcome.max_body}"
                raise CallError("TOO_LARGE", codec.NOT_STARTED, text)
            left = end - time.monotonic()
            if left <= 0:
                raise CallError("TIMEOUT", codec.NOT_STARTED, "no answer within the deadline")
            number = link.next_number()
            request = codec.Request(kind, number, int(left * 1000), peer, name, body)
            try:
                # The gateway keeps the deadline; the margin is for its answer.
                outcome = await link.ask(number, request.encode(), left + 0.5)
                if outcome.code == 0:
                    return outcome.body
                raise CallError(outcome.code, outcome.ran, outcome.text)
            except CallError as error:
                is_transient = error.code in (codec.CODES["DRAINING"], codec.CODES["GONE"])
                if error.may_have_run or not is_transient or time.monotonic() >= end:
                    raise
            await asyncio.sleep(RETRY_PAUSE)

    # Handlers.

    async def _answer(self, request: codec.Request) -> codec.Outcome:
        """Runs the handler of a call or message; gives an outcome in every case."""
        number, is_call = request.number, request.kind == codec.CALL

        def failed(code: str, ran: int, text: str) -> codec.Outcome:
            return codec.Outcome(codec.ERROR, number, codec.CODES[code], ran, text)

        handler = (self.methods if is_call else self.topics).get(request.name)
        if handler is None and not is_call:
            handler = self.topics.get("")
        if handler is None:
            return failed("NO_METHOD" if is_call else "NO_SERVICE", codec.NOT_STARTED, f"no handler for {request.name!r}")
        limit = asyncio.timeout(request.deadline / 1000)
        try:
            async with limit:
                if is_call:
                    call = Call(request.peer, request.name, request.body, request.deadline / 1000)
                    return codec.Outcome(codec.REPLY, number, body=bytes(await handler(call)))
                await handler(Message(request.peer, request.name, request.body))
                return codec.Outcome(codec.ACK, number)
        except Exception as error:  # Any error of a handler is an answer.
            if limit.expired():
                return failed("TIMEOUT", codec.UNKNOWN, "the deadline passed before the handler returned")
            text = str(error) if isinstance(error, Failed) else f"{type(error).__name__}: {error}"
            return failed("APPLICATION", codec.COMPLETED, text)

    async def close(self) -> None:
        """Closes the client for good."""
        self._finish(None)
        link, self.link = self.link, None
        if link is not None:
            await link.close()
        for task in list(self.tasks):
            task.cancel()


class Edge(_Client):
    """A connected edge."""

    async def call(self, method: str, body: bytes = b"", timeout: float = 30.0) -> bytes:
        """Calls a method that a service offers. Raises CallError."""
        return await self._request(codec.CALL, 0, method, body, timeout)

    async def publish(self, topic: str, body: bytes = b"", timeout: float = 30.0) -> None:
        """Sends a message to a service that takes the topic; returns when the service has acknowledged it."""
        await self._request(codec.MESSAGE, 0, topic, body, timeout)

    def handle(self, method: str, handler: CallHandler) -> None:
        """Sets the handler of a method that services call."""
        self.methods[method] = handler

    def receive(self, handler: MessageHandler, topic: str = "") -> None:
        """Sets the handler of messages of a topic, or of all topics without a handler of their own."""
        self.topics[topic] = handler


class Service(_Client):
    """A connected service."""

    async def _restore(self, link: Link) -> None:
        for kind, names in ((codec.REGISTER, list(self.methods)), (codec.SUBSCRIBE, list(self.topics))):
            await self._offer(link, kind, names)

    async def _offer(self, link: Link, kind: int, names: list[str]) -> None:
        """Offers as many names as the limit of the gateway allows: a client that insisted on all of them would have no
        connection for as long as the limit stands."""
        offered, size = 0, codec.NAMES_MAX
        while offered < len(names):
            chunk = names[offered : offered + size]
            try:
                await self._change_on(link, kind, chunk, 10.0)
                offered += len(chunk)
            except CallError as error:
                if error.code != codec.CODES["LIMIT"]:
                    raise
                if len(chunk) == 1:
                    LOG.warning(
                        "the cluster takes no more than %d of %d names: %s", offered, len(names), error.text
                    )
                    return
                size = len(chunk) // 2

    async def _change_on(self, link: Link, kind: int, names: list[str], timeout: float) -> None:
        number = link.next_number()
        outcome = await link.ask(number, codec.Names(kind, number, names).encode(), timeout)
        if outcome.code != 0:
            raise CallError(outcome.code, codec.NOT_STARTED, outcome.text)

    async def _add(self, kind: int, names: dict, name: str, handler) -> None:
        """Adds a name, and removes it again if the cluster refuses it."""
        self._check(name)
        previous = names.get(name)
        names[name] = handler
        try:
            await self._change(kind, name)
        except CallError as error:
            if error.code not in TRANSIENT:
                if previous is None:
                    names.pop(name, None)
                else:
                    names[name] = previous
            raise

    @staticmethod
    def _check(name: str) -> None:
        """Refuses a name that is too long: sending it would end this connection and each later one."""
        if len(name.encode()) > codec.NAME_MAX:
            raise CallError("TOO_LARGE", codec.NOT_STARTED, f"a name is over the limit of {codec.NAME_MAX} bytes")

    async def _change(self, kind: int, name: str) -> None:
        self._check(name)
        end = time.monotonic() + 30.0
        while True:
            link = await self._ready(end)
            try:
                return await self._change_on(link, kind, [name], end - time.monotonic())
            except CallError as error:
                # A new connection restores all names; repeating one does no harm.
                if error.code != codec.CODES["GONE"] or time.monotonic() >= end:
                    raise
            await asyncio.sleep(RETRY_PAUSE)

    async def register(self, method: str, handler: CallHandler) -> None:
        """Offers a method; when this returns, every node routes calls of it here. Raises CallError: if the cluster
        refused, for example past `limits.names`, the method is not offered; if it did not agree in time, the
        method is offered as soon as it does."""
        await self._add(codec.REGISTER, self.methods, method, handler)

    async def withdraw(self, method: str) -> None:
        """Stops offering a method."""
        self.methods.pop(method, None)
        await self._change(codec.WITHDRAW, method)

    async def subscribe(self, topic: str, handler: MessageHandler) -> None:
        """Takes messages of a topic; they are acknowledged when the handler returns."""
        await self._add(codec.SUBSCRIBE, self.topics, topic, handler)

    async def unsubscribe(self, topic: str) -> None:
        """Stops taking messages of a topic."""
        self.topics.pop(topic, None)
        await self._change(codec.UNSUBSCRIBE, topic)

    async def call(self, edge: int, method: str, body: bytes = b"", timeout: float = 30.0) -> bytes:
        """Calls a method of an edge, at whichever node it is connected. Raises CallError."""
        return await self._request(codec.CALL, edge, method, body, timeout)

    async def publish(self, edge: int, topic: str, body: bytes = b"", timeout: float = 30.0) -> None:
        """Sends a message to an edge; returns when the edge has acknowledged it."""
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
    """Connects an edge to the first address that answers. Raises ConnectError."""
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
    """Connects a service to the first address that answers. Raises ConnectError."""
    service = Service(
        codec.SERVICE, addresses, name, meta, instance, b"", int(keepalive * 1000), tls, server_name
    )
    await service._connect(moving=False, within=timeout)
    return service
