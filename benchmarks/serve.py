"""The service: latency beside the engine's own, many clients at once, malformed requests.

    python -m benchmarks.serve                       # latency of one client
    python -m benchmarks.serve --busy 1              # beside a process that only computes
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
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import fastgan
from benchmarks import busy

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
    parser.add_argument("--busy", type=int, default=0, help="processes that compute meanwhile")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()

    from fastgan.measure import machine

    record: dict[str, Any] = {"machine": machine.describe(), "load": os.getloadavg()}
    record["busy"] = options.busy
    generator = fastgan.load(options.model)
    output = f"{generator.signature.made.name}_uint8"
    with served(options.model) as (over_http, over_grpc, process), busy(options.busy):
        name = options.model
        if options.clients:
            expected = [generator.generate(1, seed=s, format="uint8").numpy() for s in range(SEEDS)]
            record["clients"] = asyncio.run(
                crowd(over_http, over_grpc, process, name, output, expected, options)
            )
        elif options.malformed:
            record["malformed"] = mangle(over_http, over_grpc, name, options.malformed)
        else:
            record["latency"] = latency(
                over_http, over_grpc, process, generator, name, options.requests
            )
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


def latency(
    over_http: str, over_grpc: str, process: Any, generator: Any, model: str, count: int
) -> Any:
    """Milliseconds of one image: the engine, and both protocols; they take turns.

    And the processor's, of client and server together, which a busy machine changes less: nothing
    of a request runs beside anything else of it, so they are its latency where nobody waits.
    """
    import tritonclient.grpc as grpc
    import tritonclient.http as web

    http_client = web.InferenceServerClient(over_http)
    grpc_client = grpc.InferenceServerClient(over_grpc)
    plain = http.client.HTTPConnection(over_http)
    path, wanted = f"/v2/models/{model}/infer", {"binary_data_output": True}

    def by_http(seed: int) -> None:
        said = {"inputs": [], "parameters": {"seed": seed, **wanted}}
        plain.request("POST", path, json.dumps(said), {"content-type": "application/json"})
        assert plain.getresponse().read()

    calls: dict[str, Callable[[int], object]] = {
        "engine": lambda seed: generator.generate(1, seed=seed, format="uint8"),
        "http": by_http,
        "grpc": lambda seed: grpc_client.infer(model, [], parameters={"seed": seed}),
        # Its body is a packet behind its head, which Linux acknowledges after 40 ms.
        "http by tritonclient": lambda seed: http_client.infer(
            model, [], parameters={"seed": seed}
        ),
    }
    times: dict[str, list[float]] = {name: [] for name in calls}
    used = dict.fromkeys(calls, 0.0)
    for turn in range(-20, count):
        for name, call in calls.items():
            began = time.perf_counter()
            call(turn + 20)
            if turn >= 0:
                times[name].append(1000 * (time.perf_counter() - began))
    for turn in range(4):
        for name, call in calls.items():
            before = time.process_time() + _processor(process.pid)
            for seed in range(count // 4):
                call(turn * count + seed)
            used[name] += time.process_time() + _processor(process.pid) - before
    told: dict[str, Any] = {}
    for name, found in times.items():
        found.sort()
        told[name] = {
            "p50_ms": round(statistics.median(found), 3),
            "p99_ms": round(found[int(0.99 * len(found))], 3),
            "processor_ms": round(1000 * used[name] / (count // 4 * 4), 3),
        }
        if name != "engine":
            for key in ("p50_ms", "processor_ms"):
                beyond = told[name][key] - told["engine"][key]
                told[name][f"{key}_beyond_engine"] = round(beyond, 3)
            told[name]["promised_ms"] = PROMISED[name.partition(" ")[0]]
    return told


def _processor(process: int) -> float:
    """Seconds of the processor that a process has used, in steps of some milliseconds."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


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


def garbled(draw: random.Random, count: int, model: str = "rgb") -> Iterator[tuple[str, bytes]]:
    """(method, message) of gRPC calls with something wrong in each."""
    from tritonclient.grpc import service_pb2 as messages

    numbers = [0, -1, 1, 6, 7, 1 << 40, -(1 << 63), (1 << 63) - 1]
    texts = ["", "x", "FP32", "FP64", "BYTES", "UINT8", "é", "z", "seed", model]
    for index in range(count):
        said = messages.ModelInferRequest(model_name=model, id="1")
        tensor = said.inputs.add(name="z", datatype="FP32", shape=[1, 6])
        said.raw_input_contents.append(draw.randbytes(24))
        if draw.randrange(3) == 0:  # typed contents instead, or beside it
            tensor.contents.fp32_contents.extend([0.5] * draw.choice([0, 5, 6]))
            if draw.randrange(2):
                del said.raw_input_contents[:]
        wrong = draw.randrange(8)
        if wrong == 0:
            tensor.name = draw.choice(texts)
        elif wrong == 1:
            tensor.datatype = draw.choice(texts)
        elif wrong == 2:
            tensor.shape[:] = draw.choices(numbers, k=draw.randrange(4))
        elif wrong == 3:
            said.raw_input_contents[:] = [draw.randbytes(draw.randrange(40))] * draw.randrange(3)
        elif wrong == 4:
            name = draw.choice(["n", "seed", "start", "labels", "truncation", "x", ""])
            value = said.parameters[name]
            kind = draw.choice(["bool_param", "int64_param", "string_param", "double_param", None])
            if kind is not None:
                given = {"bool_param": True, "int64_param": draw.choice(numbers)}
                given |= {"string_param": draw.choice([*texts, "1e9", "-1"]), "double_param": 0.5}
                setattr(value, kind, given[kind])
        elif wrong == 5:
            said.outputs.add(name=draw.choice(texts))
        elif wrong == 6:
            said.model_name = draw.choice(texts)
        method, message = "ModelInfer", said.SerializeToString()
        if wrong == 7 or draw.randrange(6) == 0:
            data, at = bytearray(message), draw.randrange(len(message))
            data[at : at + draw.randrange(3)] = draw.randbytes(draw.randrange(4))
            message = bytes(data)
        if index % 10 == 9:
            method = draw.choice(["ModelMetadata", "ModelReady", "RepositoryModelLoad", "Nothing"])
        yield method, message


def mangle(over_http: str, over_grpc: str, model: str, count: int) -> Any:
    """What malformed requests are answered with: half by each protocol; and what should not be."""
    answers: Counter[str] = Counter()
    wrong: list[str] = []
    connection = http.client.HTTPConnection(over_http, timeout=60)
    for path, headers, body in malformed(random.Random(1), count // 2, model):
        try:
            connection.request("POST", path, body, headers)
            answer = connection.getresponse()
            said = answer.read()
            answers[f"http {answer.status}"] += 1
            if answer.status >= 500 or (answer.status != 200 and b'"error"' not in said):
                wrong.append(f"{path} {headers} {body!r}: {answer.status} {said!r}"[:1000])
        except (OSError, http.client.HTTPException) as error:
            wrong.append(f"{path} {headers} {body!r}: {error}"[:1000])
            connection.close()
    for method, message, code, said in called(
        over_grpc, garbled(random.Random(1), count // 2, model)
    ):
        answers[f"grpc {code}"] += 1
        if code not in REFUSALS:
            wrong.append(f"{method} {message!r}: {code} {said}"[:1000])
    return {"requests": count, "answers": dict(sorted(answers.items())), "wrong": wrong[:20]}


#: What a malformed call may end with; by chance it is none the worse.
REFUSALS = {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "UNIMPLEMENTED"}


def called(
    over_grpc: str, calls: Iterator[tuple[str, bytes]]
) -> Iterator[tuple[str, bytes, str, str]]:
    """(method, message, code, what was said) of calls whose messages are sent as they are."""
    import grpc

    with grpc.insecure_channel(over_grpc) as channel:
        for method, message in calls:
            call = channel.unary_unary(f"/inference.GRPCInferenceService/{method}")
            try:
                call(message, timeout=60)
                yield method, message, "OK", ""
            except grpc.RpcError as error:
                yield method, message, error.code().name, str(error.details())


if __name__ == "__main__":
    raise SystemExit(main())
