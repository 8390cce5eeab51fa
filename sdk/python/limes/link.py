"""One connection: what is in flight on it, and its keepalive."""

from __future__ import annotations

import asyncio
import ssl
import time
from typing import TYPE_CHECKING

from . import codec
from .errors import CallError

if TYPE_CHECKING:
    from .client import _Client

#: How long a connection that is left may take to finish what is in flight (3.5).
FINISH = 30.0
#: Output above which callers wait (back-pressure).
OUTPUT_MAX = 1 << 20


class GoneAway(Exception):
    """The gateway said go-away before it said welcome."""

    def __init__(self, goaway: codec.GoAway) -> None:
        super().__init__(f"{codec.CODE_NAMES.get(goaway.code, goaway.code)}: {goaway.text}")
        self.goaway = goaway


class Link:
    """One connection of a client, from the dial to its end."""

    def __init__(self, client: _Client, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.client, self.reader, self.writer = client, reader, writer
        self.welcome: codec.Welcome | None = None
        self.decoder = codec.Decoder()
        self.waiting: dict[int, asyncio.Future[codec.Outcome]] = {}
        self.running: dict[int, asyncio.Task] = {}
        self.closed = asyncio.Event()
        self.leaving: codec.GoAway | None = None
        self.left = False
        self.last_number = 0
        self.heard = time.monotonic()
        self.tasks: list[asyncio.Task] = []

    @classmethod
    async def open(cls, client: _Client, address: str, hello: codec.Hello, tls: ssl.SSLContext | None) -> Link:
        """Dials and shakes hands (3)."""
        host, _, port = address.rpartition(":")
        host = host.strip("[]")
        name = (client.server_name or host) if tls else None
        reader, writer = await asyncio.open_connection(host, int(port), ssl=tls, server_hostname=name)
        link = cls(client, reader, writer)
        try:
            writer.write(codec.MAGIC + hello.encode())
            first = await link._frame()
            if isinstance(first, codec.GoAway):
                raise GoneAway(first)
            if not isinstance(first, codec.Welcome):
                raise codec.ProtocolError("the first frame is no welcome")
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
            self.heard = time.monotonic()
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
            future = self.waiting.pop(frame.number, None)
            if future is not None and not future.done():
                future.set_result(frame)
        elif isinstance(frame, codec.Request) and not self.left:
            self.running[frame.number] = asyncio.create_task(self._serve(frame))
        elif isinstance(frame, codec.Number) and frame.kind == codec.PING:
            self._send(codec.Number(codec.PONG, frame.number).encode())
        elif isinstance(frame, codec.Number) and frame.kind == codec.CANCEL:
            task = self.running.pop(frame.number, None)
            if task is not None:
                task.cancel()
        elif isinstance(frame, codec.GoAway):
            self.leaving = frame
            self.client._told(self, frame)
        elif isinstance(frame, codec.Yamux) and frame.opens():
            self._send(frame.reset())

    async def _serve(self, request: codec.Request) -> None:
        """Runs the handler of a call or message within its deadline."""
        number = request.number
        outcome = await self.client._answer(request)
        if len(outcome.body) > self.welcome.max_body:
            # It would cost the connection, and every other call on it (9.2).
            text = f"a reply of {len(outcome.body)} bytes is over the cluster's limit of {self.welcome.max_body}"
            outcome = codec.Outcome(codec.ERROR, number, codec.CODES["TOO_LARGE"], codec.YES, text)
        if self.running.pop(number, None) is not None:
            self._send(outcome.encode())

    async def _keep_alive(self) -> None:
        """A ping after one keepalive of silence, the end after two (3.8)."""
        keepalive = max(self.welcome.keepalive, 100) / 1000
        pinged = 0.0
        while True:
            quiet = time.monotonic() - self.heard
            if quiet >= 2 * keepalive:
                self._send(codec.GoAway(codec.CODES["KEEPALIVE"], "nothing heard").encode())
                self.writer.transport.abort()
                return
            if quiet >= keepalive and pinged < self.heard:
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
        """Sends a request and waits for its end; a caller that stops waiting cancels it (4.5)."""
        if self.closed.is_set():
            raise CallError("GONE", codec.NO, "not connected to the cluster")
        future = asyncio.get_running_loop().create_future()
        self.waiting[number] = future
        self._send(data)
        try:
            async with asyncio.timeout(timeout):
                await self.writer.drain()
                return await future
        except TimeoutError:
            raise CallError("TIMEOUT", codec.MAYBE, "no answer within the deadline") from None
        except OSError:
            raise CallError("GONE", codec.MAYBE, "the connection broke before the answer came") from None
        finally:
            if self.waiting.pop(number, None) is not None and data[0] in (codec.CALL, codec.MESSAGE):
                self._send(codec.Number(codec.CANCEL, number).encode())

    def _end(self) -> None:
        if self.closed.is_set():
            return
        self.closed.set()
        # A gateway that ends with OK has answered all that it has read (3.6).
        unread = self.leaving is not None and self.leaving.code == 0
        ran = codec.NO if unread else codec.MAYBE
        for future in self.waiting.values():
            if not future.done():
                future.set_exception(CallError("GONE", ran, "the connection ended before the answer came"))
        self.waiting.clear()
        for task in self.running.values():
            task.cancel()
        self.running.clear()
        for task in self.tasks:
            task.cancel()
        self.writer.close()
        self.client._lost(self)

    async def finish(self) -> None:
        """Lets what is in flight end, then says good-bye."""
        end = time.monotonic() + FINISH
        while (self.waiting or self.running) and not self.closed.is_set() and time.monotonic() < end:
            await asyncio.sleep(0.02)
        await self.close()

    async def close(self) -> None:
        """Says good-bye and waits a little for the gateway to close."""
        if not self.closed.is_set():
            # OK says that all that was read is answered (3.6); nothing more is read as a request.
            self.left = True
            self._send(codec.GoAway(codec.CODES["CANCELLED" if self.running else "OK"], "good-bye").encode())
            try:
                await asyncio.wait_for(self.closed.wait(), 2)
            except TimeoutError:
                self._end()
