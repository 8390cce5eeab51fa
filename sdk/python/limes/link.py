"""One connection: the requests and handlers in flight on it, and its keepalive."""

from __future__ import annotations

import asyncio
import ssl
import time
from typing import TYPE_CHECKING

from . import codec
from .errors import CallError

if TYPE_CHECKING:
    from .client import _Client

#: How long a connection that was left may take to finish what is in flight (3.5).
FINISH = 30.0
#: Bytes of unwritten output above which callers wait.
OUTPUT_MAX = 1 << 20


class NotWelcomed(Exception):
    """The gateway sent a go-away instead of a welcome."""

    def __init__(self, goaway: codec.GoAway) -> None:
        super().__init__(f"{codec.CODE_NAMES.get(goaway.code, goaway.code)}: {goaway.text}")
        self.goaway = goaway


class Link:
    """One connection of a client."""

    def __init__(self, client: _Client, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.client, self.reader, self.writer = client, reader, writer
        self.welcome: codec.Welcome | None = None
        self.decoder = codec.Decoder()
        # Requests without an outcome, and handlers that run, by number.
        self.pending: dict[int, asyncio.Future[codec.Outcome]] = {}
        self.running: dict[int, asyncio.Task] = {}
        # Set whenever a request or a handler has ended.
        self.progress = asyncio.Event()
        self.closed = asyncio.Event()
        # The go-away of the gateway.
        self.goaway: codec.GoAway | None = None
        # Whether this side has sent its own.
        self.closing = False
        self.last_number = 0
        self.last_read = time.monotonic()
        self.tasks: list[asyncio.Task] = []

    @classmethod
    async def open(cls, client: _Client, address: str, hello: codec.Hello, tls: ssl.SSLContext | None) -> Link:
        """Dials and completes the handshake (3)."""
        host, _, port = address.rpartition(":")
        host = host.strip("[]")
        name = (client.server_name or host) if tls else None
        reader, writer = await asyncio.open_connection(host, int(port), ssl=tls, server_hostname=name)
        link = cls(client, reader, writer)
        try:
            writer.write(codec.MAGIC + hello.encode())
            first = await link._frame()
            if isinstance(first, codec.GoAway):
                raise NotWelcomed(first)
            if not isinstance(first, codec.Welcome):
                raise codec.ProtocolError("the first frame is not a welcome")
            if not codec.VERSIONS[0] <= first.version <= codec.VERSIONS[1]:
                raise codec.ProtocolError(f"version {first.version} was chosen")
        except BaseException:
            writer.close()
            raise
        link.welcome = first
        writer.transport.set_write_buffer_limits(high=OUTPUT_MAX)
        link.tasks = [asyncio.create_task(link._read()), asyncio.create_task(link._keep_alive())]
        return link

    async def _frame(self):
        while True:
            found = self.decoder.next()
            if found is not None:
                return found
            data = await self.reader.read(1 << 16)
            if not data:
                raise ConnectionError("the gateway closed the connection")
            self.last_read = time.monotonic()
            self.decoder.feed(data)

    async def _read(self) -> None:
        try:
            while True:
                self._handle(await self._frame())
        except (codec.ProtocolError, OSError) as error:
            if isinstance(error, codec.ProtocolError):
                self._send(codec.GoAway(codec.CODES["PROTOCOL"], str(error)).encode())
        finally:
            self._end()

    def _handle(self, frame) -> None:
        if isinstance(frame, codec.Outcome):
            future = self.pending.pop(frame.number, None)
            if future is not None and not future.done():
                future.set_result(frame)
            self.progress.set()
        elif isinstance(frame, codec.Request) and not self.closing:
            self.running[frame.number] = asyncio.create_task(self._serve(frame))
        elif isinstance(frame, codec.Number) and frame.kind == codec.PING:
            self._send(codec.Number(codec.PONG, frame.number).encode())
        elif isinstance(frame, codec.Number) and frame.kind == codec.CANCEL:
            task = self.running.pop(frame.number, None)
            if task is not None:
                task.cancel()
                self.progress.set()
        elif isinstance(frame, codec.GoAway):
            self.goaway = frame
            self.client._on_goaway(self, frame)
        elif isinstance(frame, codec.Yamux) and frame.opens():
            self._send(frame.reset())

    async def _serve(self, request: codec.Request) -> None:
        """Runs the handler of a call or message within its deadline."""
        number = request.number
        outcome = await self.client._answer(request)
        if len(outcome.body) > self.welcome.max_body:
            # Sending it would end the connection, with every other call on it (9.2).
            text = f"a reply of {len(outcome.body)} bytes is over the cluster's limit of {self.welcome.max_body}"
            outcome = codec.Outcome(codec.ERROR, number, codec.CODES["TOO_LARGE"], codec.COMPLETED, text)
        if self.running.pop(number, None) is not None:
            self._send(outcome.encode())
            self.progress.set()

    async def _keep_alive(self) -> None:
        """Sends a ping after one keepalive of silence, and closes after two (3.8)."""
        keepalive = max(self.welcome.keepalive, 100) / 1000
        pinged = 0.0
        while True:
            quiet = time.monotonic() - self.last_read
            if quiet >= 2 * keepalive:
                self._send(codec.GoAway(codec.CODES["KEEPALIVE"], "no data from the gateway").encode())
                self.writer.transport.abort()
                return
            if quiet >= keepalive and pinged < self.last_read:
                pinged = time.monotonic()
                self._send(codec.Number(codec.PING, 0).encode())
            await asyncio.sleep(max(0.01, keepalive - quiet if quiet < keepalive else 2 * keepalive - quiet))

    def _send(self, data: bytes) -> None:
        if not self.writer.is_closing():
            self.writer.write(data)

    def next_number(self) -> int:
        self.last_number += 1
        return self.last_number

    async def ask(self, number: int, data: bytes, timeout: float) -> codec.Outcome:
        """Sends a request and waits for its outcome; a caller that stops waiting cancels it (4.5)."""
        if self.closed.is_set():
            raise CallError("GONE", codec.NOT_STARTED, "not connected to the cluster")
        future = asyncio.get_running_loop().create_future()
        self.pending[number] = future
        self._send(data)
        try:
            async with asyncio.timeout(timeout):
                await self.writer.drain()
                return await future
        except TimeoutError:
            raise CallError("TIMEOUT", codec.UNKNOWN, "no answer within the deadline") from None
        except OSError:
            raise CallError("GONE", codec.UNKNOWN, "the connection broke before the answer came") from None
        finally:
            if self.pending.pop(number, None) is not None:
                self.progress.set()
                if data[0] in (codec.CALL, codec.MESSAGE):
                    self._send(codec.Number(codec.CANCEL, number).encode())

    def _end(self) -> None:
        if self.closed.is_set():
            return
        self.closed.set()
        # A gateway that ends with OK has answered every request that it has read (3.6).
        is_unread = self.goaway is not None and self.goaway.code == 0
        ran = codec.NOT_STARTED if is_unread else codec.UNKNOWN
        for future in self.pending.values():
            if not future.done():
                future.set_exception(CallError("GONE", ran, "the connection ended before the answer came"))
        self.pending.clear()
        for task in self.running.values():
            task.cancel()
        self.running.clear()
        self.progress.set()
        for task in self.tasks:
            task.cancel()
        self.writer.close()
        self.client._on_closed(self)

    async def finish(self) -> None:
        """Closes once nothing is in flight, or after FINISH."""
        end = time.monotonic() + FINISH
        while (self.pending or self.running) and not self.closed.is_set():
            self.progress.clear()
            try:
                await asyncio.wait_for(self.progress.wait(), end - time.monotonic())
            except TimeoutError:
                break
        await self.close()

    async def close(self) -> None:
        """Sends a go-away and waits up to 2 s for the gateway to close."""
        if not self.closed.is_set():
            # OK promises that every request read is answered (3.6): from now on, requests are ignored.
            self.closing = True
            self._send(codec.GoAway(codec.CODES["CANCELLED" if self.running else "OK"], "good-bye").encode())
            try:
                await asyncio.wait_for(self.closed.wait(), 2)
            except TimeoutError:
                self._end()
