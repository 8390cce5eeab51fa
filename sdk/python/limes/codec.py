"""Encodes and decodes frames: clauses 2 to 6 of wire/PROTOCOL.md. Does no I/O."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

MAGIC = b"LIMES\r\n1"
VERSIONS = (1, 1)

HELLO, WELCOME, PING, PONG, GO_AWAY = 0x01, 0x02, 0x03, 0x04, 0x05
CALL, REPLY, ERROR, CANCEL, MESSAGE, ACK = 0x10, 0x11, 0x12, 0x13, 0x14, 0x15
REGISTER, WITHDRAW, SUBSCRIBE, UNSUBSCRIBE, DONE = 0x20, 0x21, 0x22, 0x23, 0x24

EDGE, SERVICE = 1, 2
#: Whether a handler ran (4.3).
NOT_STARTED, UNKNOWN, COMPLETED = 0, 1, 2

BODY_MAX = 16 << 20
META_MAX = 65_535
NAME_MAX = 255
NAMES_MAX = 1024
TEXT_MAX = 1024

#: Clause 8: the codes by name, and their names by code.
CODES = {
    "OK": 0, "NO_EDGE": 1, "NO_SERVICE": 2, "NO_METHOD": 3, "BUSY": 4, "TIMEOUT": 5, "CANCELLED": 6,
    "REPLACED": 7, "GONE": 8, "MOVED": 9, "NO_QUORUM": 10, "REFUSED": 11, "TOO_LARGE": 12,
    "APPLICATION": 13, "DRAINING": 14, "PROTOCOL": 32, "VERSION": 33, "AUTH": 34, "KEEPALIVE": 35,
    "SHUTDOWN": 36, "KICKED": 37, "LIMIT": 38, "HANDSHAKE_TIMEOUT": 39, "WRONG_CLUSTER": 40,
    "INTERNAL": 41, "ISOLATED": 42,
}
CODE_NAMES = {number: name for name, number in CODES.items()}


class ProtocolError(Exception):
    """Bytes that the protocol does not allow."""


class _Reader:
    """Reads fields from the front of a head (2.3)."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, count: int) -> bytes:
        if len(self.data) - self.at < count:
            raise ProtocolError("a field is cut short")
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, form: str) -> int:
        return struct.unpack(">" + form, self.take(struct.calcsize(form)))[0]

    def bytes(self) -> bytes:
        return self.take(self.number("H"))

    def text(self) -> str:
        try:
            return self.bytes().decode()
        except UnicodeDecodeError as error:
            raise ProtocolError("text that is not UTF-8") from error

    def list(self) -> list[str]:
        return [self.text() for _ in range(self.number("H"))]


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack(">H", len(data)) + data


def _list(names: list[str]) -> bytes:
    return struct.pack(">H", len(names)) + b"".join(map(_text, names))


def frame(kind: int, head: bytes, body: bytes = b"") -> bytes:
    """A frame with its header (2.1)."""
    return struct.pack(">BBHI", kind, 0, len(head), len(body)) + head + body


def _field(tag: int, value: bytes) -> bytes:
    return struct.pack(">BH", tag, len(value)) + value


@dataclass
class Hello:
    """The first frame of a client (3.2)."""

    role: int
    keepalive: int = 0
    moving: bool = False
    claim: int | None = None
    instance: bytes = b""
    name: str = ""
    ticket: bytes = b""
    meta: bytes = b""

    def encode(self) -> bytes:
        head = _field(1, struct.pack(">HH", *VERSIONS)) + _field(2, bytes([self.role]))
        if self.keepalive:
            head += _field(4, struct.pack(">I", self.keepalive))
        if self.moving:
            head += _field(5, b"")
        if self.claim is not None:
            head += _field(6, struct.pack(">Q", self.claim))
        if self.instance:
            head += _field(7, self.instance)
        if self.name:
            head += _field(8, self.name.encode())
        if self.ticket:
            head += _field(9, self.ticket)
        return frame(HELLO, head, self.meta)


@dataclass
class Welcome:
    """The answer of the gateway to a hello (3.3)."""

    version: int = 0
    keepalive: int = 20_000
    id: int = 0
    incarnation: tuple[int, int] = (0, 0)
    cluster: bytes = bytes(16)
    node: str = ""
    peers: list[str] = field(default_factory=list)
    ticket: bytes = b""
    max_body: int = BODY_MAX
    max_calls: int = 65_536

    @classmethod
    def decode(cls, head: bytes) -> Welcome:
        welcome, reader, seen = cls(), _Reader(head), set()
        while reader.at < len(head):
            tag = reader.number("B")
            value = _Reader(reader.bytes())
            seen.add(tag)
            if tag == 1:
                welcome.version = value.number("H")
            elif tag == 3:
                welcome.keepalive = value.number("I")
            elif tag == 4:
                welcome.id = value.number("Q")
            elif tag == 5:
                welcome.incarnation = (value.number("Q"), value.number("I"))
            elif tag == 6:
                welcome.cluster = value.take(16)
            elif tag == 7:
                welcome.node = value.data.decode(errors="replace")
            elif tag == 8:
                welcome.peers = value.list()
            elif tag == 9:
                welcome.ticket = value.data
            elif tag == 10:
                welcome.max_body = value.number("I")
            elif tag == 11:
                welcome.max_calls = value.number("I")
        if not {1, 4} <= seen:
            raise ProtocolError("a welcome without version or id")
        return welcome


@dataclass
class Request:
    """A call (4.1) or a message (5.1)."""

    kind: int
    number: int
    deadline: int
    peer: int
    name: str
    body: bytes = b""

    def encode(self) -> bytes:
        head = struct.pack(">QIQ", self.number, self.deadline, self.peer) + _text(self.name)
        return frame(self.kind, head, self.body)

    @classmethod
    def decode(cls, kind: int, head: bytes, body: bytes) -> Request:
        reader = _Reader(head)
        return cls(kind, reader.number("Q"), reader.number("I"), reader.number("Q"), reader.text(), body)


@dataclass
class Outcome:
    """The end of a request: a reply, an error, an ack or a done (4.3, 5.2, 6.2)."""

    kind: int
    number: int
    code: int = 0
    ran: int = NOT_STARTED
    text: str = ""
    body: bytes = b""

    def encode(self) -> bytes:
        head = struct.pack(">Q", self.number)
        if self.kind == REPLY:
            return frame(REPLY, head, self.body)
        text = self.text.encode()[:TEXT_MAX].decode(errors="ignore")
        ran = bytes([self.ran]) if self.kind == ERROR else b""
        return frame(self.kind, head + struct.pack(">I", self.code) + ran + _text(text))

    @classmethod
    def decode(cls, kind: int, head: bytes, body: bytes) -> Outcome:
        reader = _Reader(head)
        number = reader.number("Q")
        if kind == REPLY:
            return cls(kind, number, ran=COMPLETED, body=body)
        code = reader.number("I")
        # The receiver handled the message of an ack that is not OK, and refused it.
        ran = reader.number("B") if kind == ERROR else (COMPLETED if kind == ACK else NOT_STARTED)
        return cls(kind, number, code, ran, reader.text())


@dataclass
class Number:
    """A ping, a pong or a cancel, which hold only a number (3.8, 4.5)."""

    kind: int
    number: int

    def encode(self) -> bytes:
        return frame(self.kind, struct.pack(">Q", self.number))

    @classmethod
    def decode(cls, kind: int, head: bytes) -> Number:
        return cls(kind, _Reader(head).number("Q"))


@dataclass
class Names:
    """A register, withdraw, subscribe or unsubscribe (6.1)."""

    kind: int
    number: int
    names: list[str]

    def encode(self) -> bytes:
        return frame(self.kind, struct.pack(">Q", self.number) + _list(self.names))


@dataclass
class GoAway:
    """A refusal or a farewell (3.6)."""

    code: int
    text: str = ""
    peers: list[str] = field(default_factory=list)

    def encode(self) -> bytes:
        return frame(GO_AWAY, struct.pack(">I", self.code) + _text(self.text) + _list(self.peers))

    @classmethod
    def decode(cls, head: bytes) -> GoAway:
        reader = _Reader(head)
        return cls(reader.number("I"), reader.text(), reader.list())


@dataclass
class Yamux:
    """Type, flags and stream of a yamux frame (7.10); its payload is skipped."""

    kind: int
    flags: int
    stream: int

    def reset(self) -> bytes:
        """The frame that refuses the stream."""
        return struct.pack(">BBHII", 0, 1, 8, self.stream, 0)

    def opens(self) -> bool:
        return self.kind in (0, 1) and self.flags & 1 != 0


class Decoder:
    """Turns bytes, in pieces of any size, into frames."""

    def __init__(self, body_max: int = BODY_MAX) -> None:
        self.buffer, self.body_max, self.skip = bytearray(), body_max, 0

    def feed(self, data: bytes) -> None:
        self.buffer += data

    def next(self):
        """The next frame; None if more bytes are needed."""
        while True:
            skipped = min(self.skip, len(self.buffer))
            del self.buffer[:skipped]
            self.skip -= skipped
            if not self.buffer or self.skip:
                return None
            if self.buffer[0] == 0:
                return self._yamux()
            if len(self.buffer) < 8:
                return None
            kind, flags, head_len, body_len = struct.unpack(">BBHI", self.buffer[:8])
            if body_len > self.body_max:
                raise ProtocolError(f"a body of {body_len} bytes")
            end = 8 + head_len + body_len
            if len(self.buffer) < end:
                return None
            head, body = bytes(self.buffer[8 : 8 + head_len]), bytes(self.buffer[8 + head_len : end])
            del self.buffer[:end]
            found = self._decode(kind, flags, head, body)
            if found is not None:
                return found

    def _yamux(self) -> Yamux | None:
        if len(self.buffer) < 12:
            return None
        _, kind, flags, stream, length = struct.unpack(">BBHII", self.buffer[:12])
        del self.buffer[:12]
        self.skip = length if kind == 0 else 0
        return Yamux(kind, flags, stream)

    @staticmethod
    def _decode(kind: int, flags: int, head: bytes, body: bytes):
        if kind == WELCOME:
            return Welcome.decode(head)
        if kind in (PING, PONG, CANCEL):
            return Number.decode(kind, head)
        if kind == GO_AWAY:
            return GoAway.decode(head)
        if kind in (CALL, MESSAGE):
            return Request.decode(kind, head, body)
        if kind in (REPLY, ERROR, ACK, DONE):
            return Outcome.decode(kind, head, body)
        if flags & 0x80:
            return None
        raise ProtocolError(f"a frame of type {kind:#04x}")
