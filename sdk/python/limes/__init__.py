"""Edges and services of a limes cluster: calls, messages, registration. No streams.

    edge = await limes.connect_edge("127.0.0.1:30012", meta=b"a thermometer")
    reply = await edge.call("greet", b"world")

    your code --> Edge, Service (client) --> Link: one connection --> codec --> a node
        ^            | reconnects, restores names      |
        +------------+---- handlers of calls and messages

Written from wire/PROTOCOL.md alone. Needs only the standard library.
"""

from .client import Call, Edge, Message, Service, connect_edge, connect_service
from .errors import CallError, ConnectError, Failed, LimesError

__all__ = [
    "Call", "CallError", "ConnectError", "Edge", "Failed", "LimesError", "Message", "Service",
    "connect_edge", "connect_service",
]
