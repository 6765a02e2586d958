"""The service: latency beside the engine's own, many clients at once, malformed requests.

    python -m benchmarks.serve                       # latency of one client
    python -m benchmarks.serve --clients 200 --seconds 180
    python -m benchmarks.serve --malformed 5000

A server of its own process on 127.0.0.1, and tritonclient in this one. Every answer is compared
with what the engine makes of the same seed; any other byte, and any request that gets no answer, is
counted.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import http.client
import json
import os
import random
import re
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import fastgan

#: What is promised beyond the engine alone, in milliseconds, for one image and one client.
PROMISED = {"http": 2.0, "grpc": 1.0}
SEEDS = 64


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serve", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--model", default="dcgan-digits")
    parser.add_argument("--requests", type=int, default=500, help="of one client, for latency")
    parser.add_argument("--clients", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=180)
    parser.add_argument("--malformed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()

    from fastgan.measure import machine

    record: dict[str, Any] = {"machine": machine.describe(), "load": os.getloadavg()}
    generator = fastgan.load(options.model)
    output = f"{generator.signature.made.name}_uint8"
    with served(options.model) as (over_http, over_grpc, process):
        name = options.model
        if options.clients:
            expected = [generator.generate(1, seed=s, format="uint8").numpy() for s in range(SEEDS)]
            record["clients"] = asyncio.run(
                crowd(over_http, over_grpc, process, name, output, expected, options)
            )
        elif options.malformed:
            record["malformed"] = mangle(over_http, name, options.malformed)
        else:
            record["latency"] = latency(over_http, over_grpc, generator, name, options.requests)
        record["alive"] = process.poll() is None
    print(json.dumps({k: v for k, v in record.items() if k != "machine"}, indent=1))
    if options.json is not None:
        options.json.write_text(json.dumps(record, indent=1) + "\n")
    return 0


@contextlib.contextmanager
def served(*arguments: str) -> Iterator[tuple[str, str, subprocess.Popen[str]]]:
    """A server until the block ends: (HTTP, gRPC, process)."""
    command = [sys.executable, "-c", "from fastgan.cli import main; main()", "serve", *arguments]
    process = subprocess.Popen(
        [*command, "--http", "0", "--grpc", "0"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if found := re.fullmatch(r"ready: http://(\S+), gRPC on (\S+)\n", line):
                yield found[1], found[2], process
                break
    finally:
        process.terminate()
        process.wait()


# Latency -----------------------------------------------------------------------------------------


def latency(over_http: str, over_grpc: str, generator: Any, model: str, count: int) -> Any:
    """Milliseconds of one image: the engine, and both protocols; they take turns."""
    import tritonclient.grpc as grpc
    import tritonclient.http as web

    clients = {
        "http by tritonclient": web.InferenceServerClient(over_http),
        "grpc": grpc.InferenceServerClient(over_grpc),
    }
    plain = http.client.HTTPConnection(over_http)
    path, wanted = f"/v2/models/{model}/infer", {"binary_data_output": True}
    times: dict[str, list[float]] = {"engine": [], "http": [], "grpc": []}
    # Its body is a packet behind its head, which Linux acknowledges after 40 ms.
    times["http by tritonclient"] = []
    for turn in range(count + 20):
        for name, found in times.items():
            began = time.perf_counter()
            if name == "engine":
                generator.generate(1, seed=turn, format="uint8")
            elif name == "http":
                said = {"inputs": [], "parameters": {"seed": turn, **wanted}}
                plain.request("POST", path, json.dumps(said), {"content-type": "application/json"})
                assert plain.getresponse().read()
            else:
                clients[name].infer(model, [], parameters={"seed": turn})
            if turn >= 20:
                found.append(1000 * (time.perf_counter() - began))
    told: dict[str, Any] = {}
    for name, found in times.items():
        found.sort()
        told[name] = {
            "p50_ms": round(statistics.median(found), 3),
            "p99_ms": round(found[int(0.99 * len(found))], 3),
        }
        if name != "engine":
            beyond = told[name]["p50_ms"] - told["engine"]["p50_ms"]
            told[name]["beyond_engine_ms"] = round(beyond, 3)
            told[name]["promised_ms"] = PROMISED[name.partition(" ")[0]]
    return told


# A crowd -----------------------------------------------------------------------------------------


async def crowd(
    over_http: str,
    over_grpc: str,
    process: Any,
    model: str,
    output: str,
    expected: Any,
    options: Any,
) -> Any:
    """Clients that ask one request after another, half by each protocol."""
    import tritonclient.grpc.aio as grpc
    import tritonclient.http.aio as web

    clients = [
        web.InferenceServerClient(over_http, conn_limit=options.clients, conn_timeout=120),
        grpc.InferenceServerClient(over_grpc),
    ]
    counts: Counter[str] = Counter()
    times: list[float] = []
    memory: list[int] = []
    until = time.perf_counter() + options.seconds

    async def client(number: int) -> None:
        mine = clients[number % 2]
        draw = random.Random(number)
        while time.perf_counter() < until:
            seed, began = draw.randrange(SEEDS), time.perf_counter()
            counts["asked"] += 1
            try:
                answer = await mine.infer(model, [], parameters={"seed": seed})
            except Exception as error:
                status = error.status() if hasattr(error, "status") else type(error).__name__
                busy = status in ("429", "StatusCode.RESOURCE_EXHAUSTED")
                counts["refused" if busy else "lost"] += 1
                counts[f"error {status}: {str(error)[:100]}"] += 1
                continue
            times.append(time.perf_counter() - began)
            right = np.array_equal(answer.as_numpy(output), expected[seed])
            counts["right" if right else "wrong"] += 1

    async def watch() -> None:
        while time.perf_counter() < until:
            memory.append(_resident(process.pid))
            await asyncio.sleep(min(5.0, options.seconds / 10))

    await asyncio.gather(watch(), *(client(i) for i in range(options.clients)))
    for one in clients:
        await one.close()
    times.sort()
    return {
        "clients": options.clients,
        "seconds": options.seconds,
        **counts,
        "requests_per_second": round(len(times) / options.seconds, 1),
        "p50_ms": round(1000 * statistics.median(times), 1),
        "p99_ms": round(1000 * times[int(0.99 * len(times))], 1),
        "resident_MB": [round(m / 1e6, 1) for m in (memory[1], max(memory), memory[-1])],
    }


def _resident(process: int) -> int:
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


# Malformed ---------------------------------------------------------------------------------------


def malformed(
    draw: random.Random, count: int, model: str = "rgb"
) -> Iterator[tuple[str, dict[str, str], bytes]]:
    """(path, headers, body) of requests with something wrong in each."""
    path = f"/v2/models/{model}/infer"
    values = [
        *(None, True, -1, 0, 1 << 70, 1e400, "x", "", [], {}, [[]], [1, [2]], {"a": 1}, [None]),
        *(float("nan"), "é\x00", [1e300] * 3, [-1], ["x"]),
    ]
    for index in range(count):
        data = draw.randbytes(24)
        tensor: dict[str, Any] = {"name": "z", "shape": [1, 6], "datatype": "FP32"}
        body: dict[str, Any] = {"inputs": [tensor], "id": "1", "parameters": {"seed": 1}}
        binary = bool(draw.randrange(2))
        if binary:
            tensor["parameters"] = {"binary_data_size": len(data)}
        else:
            tensor["data"] = [0.5] * 6
        target = draw.choice([body, tensor, body["parameters"], tensor.get("parameters") or body])
        key = draw.choice([*target, "outputs", "n", "labels", "start", "truncation"])
        target[key] = draw.choice(values)
        if draw.randrange(3) == 0:
            target.pop(draw.choice(list(target)))
        text = json.dumps(body).encode()
        length = str(len(text))
        if draw.randrange(4) == 0:
            at = draw.randrange(len(text))
            text = text[:at] + draw.randbytes(draw.randrange(4)) + text[at + 1 :]
        if draw.randrange(6) == 0:
            length = draw.choice(["-5", "x", "999999999", "0", "7"])
        headers = {"content-type": "application/json"}
        if binary:
            headers = {
                "content-type": "application/octet-stream",
                "inference-header-content-length": length,
            }
            text += data[: draw.choice([24, 24, 23, 0])]
        where = (
            path
            if index % 10
            else draw.choice(["/v2/models/nothing/infer", "/v1/models/x:predict"])
        )
        yield where, headers, text


def mangle(over_http: str, model: str, count: int) -> Any:
    """What malformed requests are answered with."""
    answers: Counter[int] = Counter()
    connection = http.client.HTTPConnection(over_http, timeout=60)
    for path, headers, body in malformed(random.Random(1), count, model):
        try:
            connection.request("POST", path, body, headers)
            answer = connection.getresponse()
            answer.read()
            answers[answer.status] += 1
        except (OSError, http.client.HTTPException):
            answers[0] += 1
            connection.close()
    return {"requests": count, "answers": dict(sorted(answers.items()))}


if __name__ == "__main__":
    raise SystemExit(main())
