"""A server with little room: it says so, forgets clients that go away, and ends without loss."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import fastgan as library
from tests.drawing import new_random
from tests.serve.conftest import COMMAND, LIMIT, require_kserve, started
from tests.serve.test_protocol import metric

grpcclient = pytest.importorskip("tritonclient.grpc")
httpclient = pytest.importorskip("tritonclient.http")


@pytest.fixture(scope="module")
def narrow(models) -> Iterator[Any]:
    """Two requests may wait, which they do for six seconds; messages have at most 4 KiB."""
    require_kserve()
    limits = ("--batch-ms", 6000, "--queue", 2, "--max-bytes", 4096)
    with started(models / "rgb.onnx", *limits) as running:
        yield running


def test_messages_that_are_too_large(narrow) -> None:
    connection = http.client.HTTPConnection(narrow.http)
    connection.request("POST", "/v2/models/rgb/infer", b" " * 5000)
    answer = connection.getresponse()
    assert answer.status == 413
    assert "4096" in json.loads(answer.read())["error"]
    connection.close()
    remote = grpcclient.InferenceServerClient(narrow.grpc)
    with pytest.raises(grpcclient.InferenceServerException) as error:
        remote.infer("rgb", [], parameters={"text": "x" * 5000})
    assert error.value.status() == "StatusCode.RESOURCE_EXHAUSTED"
    remote.close()


def test_malformed_requests_are_errors_of_the_protocol(server) -> None:
    from benchmarks.serve import REFUSALS, called, garbled, malformed

    random = new_random()
    connection = http.client.HTTPConnection(server.http, timeout=60)
    for path, headers, body in malformed(random, 200):
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        said = answer.read()
        if answer.status != 200:  # by chance it is none the worse
            assert 400 <= answer.status < 500, (path, headers, body, said)
            assert "error" in json.loads(said)
    connection.close()
    for method, message, code, said in called(server.grpc, garbled(random, 200)):
        assert code in REFUSALS, (method, message, code, said)
    remote = httpclient.InferenceServerClient(server.http)
    assert remote.infer("rgb", []).as_numpy("image_uint8").shape == (1, 8, 8, 3)
    remote.close()


def test_ports_that_are_taken(server, models) -> None:
    _, port = server.http.split(":")
    result = subprocess.run(
        [*COMMAND, str(models / "rgb.onnx"), "--http", port, "--grpc", "-1"],
        capture_output=True,
        text=True,
        timeout=LIMIT / 3,
    )
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert f"--http: found 127.0.0.1:{port}" in result.stderr


def test_it_is_bound_to_this_machine_alone(server) -> None:
    assert server.http.startswith("127.0.0.1:")
    assert server.grpc.startswith("127.0.0.1:")
    other = socket.gethostbyname(socket.gethostname())
    if other.startswith("127."):
        pytest.skip("this machine has no other address")
    for address in (server.http, server.grpc):
        with socket.socket() as probe:
            assert probe.connect_ex((other, int(address.split(":")[1]))) != 0


def until(holds: Callable[[], object]) -> None:
    """Wait for it, a minute at most."""
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_queue_that_is_full_a_client_that_goes_and_an_end(narrow, models) -> None:
    grpc = grpcclient.InferenceServerClient(narrow.grpc)
    answers: list[Any] = []

    def ask(seed: int) -> Any:
        def answered(result: Any, error: Any) -> None:
            answers.append((seed, error or result.as_numpy("image")))

        outputs = [grpcclient.InferRequestedOutput("image")]
        return grpc.async_infer("rgb", [], answered, parameters={"seed": seed}, outputs=outputs)

    # Three at once, and room for two.
    kept = [ask(seed) for seed in range(3)]
    until(lambda: len(answers) == 3)
    refused = [error for _, error in answers if isinstance(error, Exception)]
    assert len(refused) == 1
    assert refused[0].status() == "StatusCode.RESOURCE_EXHAUSTED"
    assert metric(narrow, "fastgan_batch_samples_count", "rgb") == 1  # the two were one

    # Two that wait, and go away: by gRPC and by HTTP. Their places are free again, nothing is run.
    gone = ask(7)
    body = json.dumps({"inputs": [], "parameters": {"seed": 8}}).encode()
    host, port = narrow.http.split(":")
    with socket.create_connection((host, int(port))) as raw:
        raw.sendall(
            b"POST /v2/models/rgb/infer HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            + f"content-length: {len(body)}\r\n\r\n".encode()
            + body
        )
        until(lambda: metric(narrow, "fastgan_queue_requests", "rgb") == 2)
        over_http = httpclient.InferenceServerClient(narrow.http)
        with pytest.raises(httpclient.InferenceServerException) as error:
            over_http.infer("rgb", [])
        assert error.value.status() == "429"
    gone.cancel()
    until(lambda: not metric(narrow, "fastgan_queue_requests", "rgb"))
    assert metric(narrow, "fastgan_batch_samples_count", "rgb") == 1

    # What was taken is answered; what comes after it is not; then it ends by itself.
    kept = [ask(11)]
    until(lambda: metric(narrow, "fastgan_queue_requests", "rgb"))
    narrow.process.send_signal(signal.SIGTERM)
    assert narrow.process.wait(60) == 0
    until(lambda: any(seed == 11 for seed, _ in answers))
    expected = library.load(models / "rgb.onnx").generate(1, seed=11).numpy()
    answer = next(answer for seed, answer in answers if seed == 11)
    assert not isinstance(answer, Exception), answer
    assert (answer == expected).all()
    assert kept
    grpc.close()
