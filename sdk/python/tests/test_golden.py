"""Decodes and encodes the golden bytes of wire/golden and of the worked example."""

import pathlib
import re
import sys
import unittest

HERE = pathlib.Path(__file__).resolve()
sys.path.insert(0, str(HERE.parents[1]))
WIRE = HERE.parents[3] / "wire"

from limes import codec  # noqa: E402


def unhex(text: str) -> bytes:
    return bytes.fromhex("".join(line.split("#")[0] for line in text.splitlines()))


def golden(name: str) -> bytes:
    return unhex((WIRE / "golden" / f"{name}.hex").read_text())


def example(name: str) -> bytes:
    """A block of the worked example, clause 10."""
    text = (WIRE / "PROTOCOL.md").read_text()
    return unhex(re.search(rf"```hex {name}\n(.*?)```", text, re.DOTALL)[1])


def read(data: bytes):
    decoder = codec.Decoder()
    decoder.feed(data)
    return decoder.next()


PEER = 1_000_000_000_001
WELCOME = codec.Welcome(
    1, 20_000, PEER, (900, 2), bytes([7] * 16), "node-1", ["10.0.0.2:30012"], b"ticket"
)
FRAMES = {
    "hello": codec.Hello(codec.SERVICE, 20_000, True, 77, bytes([9] * 16), "greeter", b"tick", b"meta"),
    "ping": codec.Number(codec.PING, 5),
    "pong": codec.Number(codec.PONG, 5),
    "go-away": codec.GoAway(codec.CODES["DRAINING"], "stopping", ["10.0.0.2:30012"]),
    "call": codec.Request(codec.CALL, 7, 30_000, PEER, "greet", b"world"),
    "reply": codec.Outcome(codec.REPLY, 7, ran=codec.COMPLETED, body=b"hello world"),
    "error": codec.Outcome(codec.ERROR, 7, codec.CODES["NO_METHOD"], codec.NOT_STARTED, "nobody"),
    "cancel": codec.Number(codec.CANCEL, 7),
    "message": codec.Request(codec.MESSAGE, 8, 5_000, 0, "alarms", b"fire"),
    "ack": codec.Outcome(codec.ACK, 8, ran=codec.COMPLETED),
    "register": codec.Names(codec.REGISTER, 3, ["a", "bc"]),
    "withdraw": codec.Names(codec.WITHDRAW, 3, ["a", "bc"]),
    "subscribe": codec.Names(codec.SUBSCRIBE, 3, ["a", "bc"]),
    "unsubscribe": codec.Names(codec.UNSUBSCRIBE, 3, ["a", "bc"]),
    "done": codec.Outcome(codec.DONE, 3, codec.CODES["NO_QUORUM"], codec.NOT_STARTED, "later"),
}


class Golden(unittest.TestCase):
    def test_frames_encode_to_the_golden_bytes(self):
        for name, frame in FRAMES.items():
            self.assertEqual(frame.encode(), golden(name), name)

    def test_golden_bytes_decode_in_pieces_of_any_size(self):
        readable = {name: frame for name, frame in FRAMES.items() if not isinstance(frame, codec.Names)}
        readable["welcome"] = WELCOME
        del readable["hello"]
        for name, frame in readable.items():
            whole = golden(name)
            for cut in range(len(whole)):
                decoder = codec.Decoder()
                decoder.feed(whole[:cut])
                self.assertIsNone(decoder.next(), f"{name} cut at {cut}")
                decoder.feed(whole[cut:])
                self.assertEqual(decoder.next(), frame, name)

    def test_the_worked_example_encodes_and_decodes(self):
        hello = codec.Hello(codec.SERVICE, name="greeter")
        self.assertEqual(codec.MAGIC + hello.encode(), example("hello"))
        welcome = read(example("welcome"))
        self.assertEqual((welcome.version, welcome.id, welcome.node), (1, 4, "node-1"))
        self.assertEqual(codec.Names(codec.REGISTER, 1, ["greet"]).encode(), example("register"))
        self.assertEqual(read(example("done")), codec.Outcome(codec.DONE, 1))
        call = read(example("call"))
        self.assertEqual(call, codec.Request(codec.CALL, 1, 5_000, 1_001, "greet", b"world"))
        reply = codec.Outcome(codec.REPLY, 1, ran=codec.COMPLETED, body=b"hello world")
        self.assertEqual(reply.encode(), example("reply"))

    def test_unknown_frames_are_skipped_if_optional_and_refused_otherwise(self):
        pong = codec.Number(codec.PONG, 5).encode()
        self.assertEqual(read(b"\x7f\x80\0\2\0\0\0\1abc" + pong), codec.Number(codec.PONG, 5))
        with self.assertRaises(codec.ProtocolError):
            read(b"\x7f\x00\0\2\0\0\0\1abc" + pong)
        with self.assertRaises(codec.ProtocolError):
            read(b"\x11\0\0\x08\xff\xff\xff\xff")

    def test_stream_frames_are_skipped_and_streams_refused(self):
        opens = bytes([0, 1, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0])
        data = bytes([0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 3]) + b"abc"
        pong = codec.Number(codec.PONG, 5).encode()
        decoder = codec.Decoder()
        decoder.feed(opens + data + pong)
        first = decoder.next()
        self.assertTrue(first.opens())
        self.assertEqual(first.reset(), bytes([0, 1, 0, 8, 0, 0, 0, 2, 0, 0, 0, 0]))
        self.assertFalse(decoder.next().opens())
        self.assertEqual(decoder.next(), codec.Number(codec.PONG, 5))

    def test_the_codes_match_clause_8(self):
        text = (WIRE / "PROTOCOL.md").read_text()
        rows = dict(re.findall(r"^\| (\d+) \| ([A-Z_]+) \|", text, re.MULTILINE))
        self.assertEqual({name: int(number) for number, name in rows.items()}, codec.CODES)


if __name__ == "__main__":
    unittest.main()
