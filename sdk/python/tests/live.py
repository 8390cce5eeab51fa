"""Against real nodes: `live.py EDGES SERVICES`, each a comma-separated list of node addresses.

Prints one line for each property that holds. A line `ask: ...` asks the calling test to break the cluster; the
test answers with a line on stdin.
"""

import asyncio
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import limes  # noqa: E402

#: Time limit of any step on a busy machine, in seconds.
PATIENCE = 100.0


async def failing(work) -> limes.CallError:
    """The error of a request that must fail."""
    try:
        result = await work
    except limes.CallError as error:
        return error
    raise AssertionError(f"succeeded with {result!r}")


async def ask(what: str) -> str:
    print(f"ask: {what}", flush=True)
    line = await asyncio.wait_for(asyncio.to_thread(sys.stdin.readline), PATIENCE)
    return line.strip()


async def until(what: str, holds) -> None:
    end = time.monotonic() + PATIENCE
    while not await holds():
        assert time.monotonic() < end, f"not in time: {what}"
        await asyncio.sleep(0.02)


async def talk(edge: limes.Edge, service: limes.Service) -> None:
    """Calls, messages, errors, deadlines, cancels."""
    cancelled, received = asyncio.Event(), asyncio.Queue()

    async def greet(call: limes.Call) -> bytes:
        return b"hello " + call.body + b" from %d" % call.peer

    async def fail(call: limes.Call) -> bytes:
        raise limes.Failed("no such record")

    async def hang(call: limes.Call) -> bytes:
        try:
            await asyncio.sleep(PATIENCE)
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return b""

    async def receive(message: limes.Message) -> None:
        if message.body == b"bad":
            raise limes.Failed("not like that")
        received.put_nowait(message)

    for method, handler in (("greet", greet), ("fail", fail), ("hang", hang)):
        await service.register(method, handler)
    await service.subscribe("alarms", receive)
    edge.handle("greet", greet)
    edge.receive(receive)

    assert await edge.call("greet", b"ann") == b"hello ann from %d" % edge.id
    assert await service.call(edge.id, "greet", b"bob") == b"hello bob from %d" % service.id
    large = bytes(range(256)) * 8192
    assert (await edge.call("greet", large)).startswith(b"hello " + large)
    many = await asyncio.gather(*(edge.call("greet", b"%d" % at) for at in range(1000)))
    assert many[999] == b"hello 999 from %d" % edge.id
    print("calls both ways", flush=True)

    await edge.publish("alarms", b"fire")
    await service.publish(edge.id, "orders", b"stop")
    got = [await asyncio.wait_for(received.get(), PATIENCE) for _ in range(2)]
    assert [(m.topic, m.body) for m in got] == [("alarms", b"fire"), ("orders", b"stop")], got
    refused = await failing(edge.publish("alarms", b"bad"))
    assert (refused.code_name, refused.text) == ("APPLICATION", "not like that"), refused
    print("messages both ways", flush=True)

    error = await failing(edge.call("fail"))
    assert (error.code_name, error.may_have_run, error.text) == ("APPLICATION", True, "no such record"), error
    error = await failing(edge.call("nothing"))
    assert (error.code_name, error.may_have_run) == ("NO_METHOD", False), error
    error = await failing(service.call(77, "greet"))
    assert (error.code_name, error.may_have_run) == ("NO_EDGE", False), error
    error = await failing(service.call(edge.id, "nothing"))
    assert (error.code_name, error.may_have_run) == ("NO_METHOD", False), error
    error = await failing(edge.publish("nothing"))
    assert error.code_name == "NO_SERVICE" and not error.may_have_run, error
    error = await failing(edge.call("hang", timeout=0.5))
    assert (error.code_name, error.may_have_run) == ("TIMEOUT", True), error
    await asyncio.wait_for(cancelled.wait(), PATIENCE)
    cancelled.clear()
    waiting = asyncio.create_task(edge.call("hang"))
    await asyncio.sleep(0.2)
    waiting.cancel()
    await asyncio.wait_for(cancelled.wait(), PATIENCE)
    print("errors, deadlines, cancels", flush=True)


async def limits(edge: limes.Edge, service: limes.Service) -> None:
    """The cluster takes bodies of 4 MiB and six names of a service; a larger request fails and costs nothing else."""

    async def large(call: limes.Call) -> bytes:
        return bytes(int(call.body))

    links = edge.link, service.link
    await service.register("large", large)
    error = await failing(edge.call("large", bytes((4 << 20) + 1)))
    assert (error.code_name, error.may_have_run) == ("TOO_LARGE", False), error
    error = await failing(edge.call("large", b"%d" % ((4 << 20) + 1)))
    assert (error.code_name, error.may_have_run) == ("TOO_LARGE", True), error
    assert len(await edge.call("large", b"%d" % (4 << 20))) == 4 << 20
    error = await failing(service.register("x" * 256, large))
    assert (error.code_name, error.may_have_run) == ("TOO_LARGE", False), error
    await service.register("sixth", large)
    for name in ("seventh", "eighth"):
        error = await failing(service.register(name, large))
        assert (error.code_name, error.may_have_run) == ("LIMIT", False), error
        assert name not in service.methods
    assert (edge.link, service.link) == links, "a connection was lost"
    print("limits are reported and cost nothing", flush=True)


async def move(edge: limes.Edge) -> None:
    """The edge's node drains while calls run: none fails, and the edge keeps its id."""
    before, stop, calls = (edge.id, edge.node), asyncio.Event(), 0

    async def work() -> None:
        nonlocal calls
        while not stop.is_set():
            await edge.call("greet", b"on and on")
            calls += 1

    workers = [asyncio.create_task(work()) for _ in range(4)]
    await ask(f"stop {edge.node}")

    async def moved() -> bool:
        assert not any(worker.done() for worker in workers), "a call failed"
        return edge.node != before[1] and calls > 50

    await until("the edge has moved", moved)
    stop.set()
    await asyncio.gather(*workers)
    assert edge.id == before[0], (edge.id, before)
    print("moved without a failed call", flush=True)


async def come_back(edge: limes.Edge, service: limes.Service) -> None:
    """The service's node is killed: the service reconnects to another node, with its methods."""
    before = service.node
    # A name over the limit does not keep it from reconnecting.
    service.methods["one too many"] = service.methods["sixth"]
    await ask(f"kill {before}")

    async def served() -> bool:
        try:
            return (await edge.call("greet", b"again", timeout=5)).startswith(b"hello again")
        except limes.CallError:
            return False

    await until("the service serves again", served)

    async def elsewhere() -> bool:
        return service.node != before

    await until("the service is elsewhere", elsewhere)
    print("came back with its methods", flush=True)


async def main(edges: str, services: str) -> None:
    edge_at, service_at = edges.split(","), services.split(",")
    service = await limes.connect_service("python", service_at[0], timeout=PATIENCE)
    service.given = service_at
    edge = await limes.connect_edge(edge_at[-1], meta=b"a snake", keepalive=1.0, timeout=PATIENCE)
    idle = await limes.connect_edge(edge_at[-1], keepalive=1.0, timeout=PATIENCE)
    node, began = idle.link, asyncio.get_running_loop().time()
    await talk(edge, service)
    await limits(edge, service)
    await ask(f"call {edge.id}")
    # Three keepalives without traffic: pings keep the connection open.
    await asyncio.sleep(began + 3.5 - asyncio.get_running_loop().time())
    assert idle.link is node, "the idle connection was lost"
    await idle.close()
    print("alive by pings", flush=True)
    await move(edge)
    await come_back(edge, service)
    await edge.close()
    await service.close()
    error = await failing(edge.call("greet"))
    assert not error.may_have_run, error
    print("done", flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:3]))
