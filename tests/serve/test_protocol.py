"""What NVIDIA's tritonclient gets of the server, by HTTP and gRPC: the engine's own bytes."""

from __future__ import annotations

import asyncio
import io
import json
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import fastgan as library
from tests.drawing import new_random, new_seed

httpclient = pytest.importorskip("tritonclient.http")
grpcclient = pytest.importorskip("tritonclient.grpc")


@pytest.fixture(params=["http", "grpc"])
def client(server, request) -> Any:
    """(a client, the module that it is of)"""
    module = httpclient if request.param == "http" else grpcclient
    made = module.InferenceServerClient(server.http if request.param == "http" else server.grpc)
    yield made, module
    made.close()


def tensor(module: Any, name: str, array: np.ndarray, datatype: str) -> Any:
    made = module.InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array)
    return made


def near(got: np.ndarray, made: Any) -> None:
    """As the engine makes it alone: a batch of one may be a kernel of its own (docs/serve.md)."""
    if got.dtype == np.uint8:
        assert np.abs(got.astype(int) - made.numpy().astype(int)).max() <= 1
    else:
        np.testing.assert_allclose(got, made.numpy(), atol=1e-5)


def test_health_and_metadata(client, server) -> None:
    remote, _ = client
    assert remote.is_server_live()
    assert remote.is_server_ready()
    assert remote.is_model_ready("classes")
    assert not remote.is_model_ready("nothing") if hasattr(remote, "_pool") else True
    text = str(remote.get_model_metadata("classes"))
    assert all(name in text for name in ("seed", "image_uint8", "image_png", "labels"))
    with urllib.request.urlopen(f"http://{server.http}/v2/models/classes") as answer:
        told = {port["name"]: port for port in json.load(answer)["inputs"]}
    assert told["y"]["parameters"]["class_names"] == ["ant", "bee", "cat", "dog"]
    assert told["z"]["parameters"]["kind"] == "latent"
    assert (told["z"]["datatype"], told["z"]["shape"]) == ("FP32", [-1, 6])


def test_samples_of_a_seed(client, models) -> None:
    remote, module = client
    generator, seed = library.load(models / "classes.onnx"), new_seed()
    asked = {"seed": seed, "start": 3, "n": 5}
    got = remote.infer("classes", [], parameters=asked).as_numpy("image_uint8")
    near(got, generator.generate(**asked, format="uint8"))
    outputs = [module.InferRequestedOutput(name) for name in ("image", "image_png")]
    answer = remote.infer("classes", [], parameters={**asked, "labels": "cat"}, outputs=outputs)
    floats = generator.generate(**asked, labels="cat")
    near(answer.as_numpy("image"), floats)
    opened = [np.asarray(Image.open(io.BytesIO(png))) for png in answer.as_numpy("image_png")]
    bytes_ = generator.generate(**asked, labels="cat", format="uint8")
    near(np.stack(opened), bytes_)


def test_arguments_as_tensors(client, models) -> None:
    remote, module = client
    generator = library.load(models / "classes.onnx")
    seeds = np.array([2**64 - 1, 5, 5], np.uint64)
    inputs = [
        tensor(module, "seed", seeds, "UINT64"),
        tensor(module, "labels", np.array([1, 0, 3]), "INT64"),
        tensor(module, "truncation", np.array([0.5], np.float32), "FP32"),
    ]
    got = remote.infer("classes", inputs).as_numpy("image_uint8")
    made = generator.generate(
        3, seed=[int(s) for s in seeds], labels=[1, 0, 3], truncation=0.5, format="uint8"
    )
    near(got, made)


def test_given_latents(client, models) -> None:
    remote, module = client
    generator = library.load(models / "rgb.onnx")
    latents = generator.latents(4, seed=new_seed()).numpy()
    got = remote.infer("rgb", [tensor(module, "z", latents, "FP32")]).as_numpy("image_uint8")
    np.testing.assert_array_equal(got, generator.generate(4, z=latents, format="uint8").numpy())


def test_pictures_as_tensors_and_as_files(client) -> None:
    remote, module = client
    generator = library.load("superres-x2")
    name, out = generator.signature.image.name, generator.signature.made.name
    random = np.random.default_rng(new_random().randrange(2**32))
    images = random.integers(0, 255, (2, 10, 12, 3), np.uint8)
    expected = generator(images, format="uint8").numpy()
    encoded = np.empty(2, dtype=object)
    for index, image in enumerate(images):
        file = io.BytesIO()
        Image.fromarray(image).save(file, "PNG")
        encoded[index] = file.getvalue()
    low, high = generator.signature.image.range
    floats = (low + images.transpose(0, 3, 1, 2) / 255 * (high - low)).astype(np.float32)
    for array, datatype in ((images, "UINT8"), (encoded, "BYTES"), (floats, "FP32")):
        answer = remote.infer("superres-x2", [tensor(module, name, array, datatype)])
        got = answer.as_numpy(f"{out}_uint8").astype(int)
        # Floats were rounded on their way.
        assert abs(got - expected).max() <= (1 if datatype == "FP32" else 0)


def test_json_alone(server, models) -> None:
    body = {"id": "7", "parameters": {"seed": 3}, "inputs": [], "outputs": [{"name": "image"}]}
    request = urllib.request.Request(
        f"http://{server.http}/v2/models/rgb/infer",
        json.dumps(body).encode(),
        {"content-type": "application/json"},
    )
    with urllib.request.urlopen(request) as answer:
        said = json.load(answer)
    assert said["id"] == "7"
    got = np.array(said["outputs"][0]["data"], np.float32).reshape(said["outputs"][0]["shape"])
    generator = library.load(models / "rgb.onnx")
    np.testing.assert_array_equal(got, generator.generate(1, seed=3).numpy())


def test_many_at_once_get_what_each_gets_alone(server, models) -> None:
    import tritonclient.grpc.aio as over_grpc
    import tritonclient.http.aio as over_http

    generator = library.load(models / "classes.onnx")
    random = new_random()
    asked = [
        {"seed": random.randrange(2**60), "start": random.randrange(99), "n": 1 + i % 4}
        for i in range(120)
    ]

    async def all_of_them() -> list[np.ndarray]:
        http = over_http.InferenceServerClient(server.http, conn_limit=24)
        grpc = over_grpc.InferenceServerClient(server.grpc)
        answers = await asyncio.gather(
            *((http, grpc)[i % 2].infer("classes", [], parameters=a) for i, a in enumerate(asked))
        )
        await http.close()
        await grpc.close()
        return [answer.as_numpy("image_uint8") for answer in answers]

    alone = httpclient.InferenceServerClient(server.http)
    for arguments, got in zip(asked, asyncio.run(all_of_them()), strict=True):
        by_itself = alone.infer("classes", [], parameters=arguments).as_numpy("image_uint8")
        np.testing.assert_array_equal(got, by_itself)
        near(got, generator.generate(**arguments, format="uint8"))
    alone.close()
    counts = metric(server, "fastgan_batch_samples_count", "classes")
    assert counts < metric(server, "fastgan_request_seconds_count", "classes")  # some were one


def metric(server: Any, name: str, model: str) -> float:
    """A number of /metrics."""
    with urllib.request.urlopen(f"http://{server.http}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    return next(float(x.split()[-1]) for x in lines if x.startswith(f'{name}{{model="{model}"'))


@pytest.mark.parametrize(
    ("model", "parameters", "found"),
    [
        ("rgb", {"n": 0}, "n: found 0"),
        ("rgb", {"n": 65}, "at most 64"),
        ("rgb", {"nothing": 1}, "nothing: found no such argument"),
        ("rgb", {"seed": -1}, "seed: found -1"),
        ("rgb", {"seed": "x"}, "seed: found 'x'"),
        ("rgb", {"labels": 1}, "a model without classes"),
        ("classes", {"labels": "cow"}, "'cow'"),
        ("classes", {"labels": 9}, "labels: found 9"),
        ("superres-x2", {}, "no value for this image"),
    ],
)
def test_what_cannot_be_is_said(client, model, parameters, found) -> None:
    remote, module = client
    with pytest.raises(module.InferenceServerException) as error:
        remote.infer(model, [], parameters=parameters)
    assert error.value.status() in ("400", "StatusCode.INVALID_ARGUMENT")
    assert found in error.value.message()


def test_a_parameter_that_grpc_would_lose_is_refused(server) -> None:
    remote = grpcclient.InferenceServerClient(server.grpc)
    with pytest.raises(grpcclient.InferenceServerException, match="truncation"):
        remote.infer("rgb", [], parameters={"truncation": 0.5})
    remote.infer("rgb", [], parameters={"truncation": "0.5"})
    remote.close()


@pytest.mark.parametrize("output", [False, True])
def test_shared_memory_is_refused(client, output) -> None:
    remote, module = client
    port = module.InferRequestedOutput("image_uint8") if output else None
    port = port or module.InferInput("z", [1, 6], "FP32")
    port.set_shared_memory("region", 24)
    given = {"inputs": [], "outputs": [port]} if output else {"inputs": [port]}
    with pytest.raises(module.InferenceServerException, match="found a region of shared memory"):
        remote.infer("rgb", **given)


def test_a_client_cannot_end_a_model_for_others(client) -> None:
    remote, module = client
    if module is httpclient:  # the gRPC client calls a method that KServe has not
        with pytest.raises(module.InferenceServerException):
            remote.unload_model("rgb")
    assert remote.is_model_ready("rgb")


def under_triton(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    """A repository's config, parsed by Triton's own schema; its model, beside a stand-in of what
    Triton gives it.
    """
    import sys
    import types

    from google.protobuf import json_format, text_format
    from tritonclient.grpc import model_config_pb2

    config = text_format.Parse(
        (folder / "config.pbtxt").read_text(), model_config_pb2.ModelConfig()
    )
    stand_in = types.SimpleNamespace(
        Tensor=TritonTensor,
        TritonError=str,
        InferenceResponse=lambda output_tensors, error=None: (output_tensors, error),
    )
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", stand_in)
    scope: dict[str, Any] = {}
    exec((folder / "1" / "model.py").read_text(), scope)
    model = scope["TritonPythonModel"]()
    model.initialize(
        {
            "model_config": json_format.MessageToJson(config, preserving_proto_field_name=True),
            "model_repository": str(folder),
            "model_version": "1",
            "model_instance_kind": "CPU",
            "model_instance_device_id": "0",
        }
    )
    return config, model


class TritonTensor:
    """As `triton_python_backend_utils` has it."""

    def __init__(self, name: str, array: np.ndarray) -> None:
        self._name, self._array = name, array

    def name(self) -> str:
        return self._name

    def as_numpy(self) -> np.ndarray:
        return self._array


class TritonRequest:
    """As `triton_python_backend_utils` has it."""

    def __init__(
        self, wanted: list[str], parameters: dict[str, Any], *inputs: TritonTensor
    ) -> None:
        self._wanted, self._parameters, self._inputs = wanted, parameters, inputs

    def inputs(self) -> tuple[TritonTensor, ...]:
        return self._inputs

    def parameters(self) -> str:
        return json.dumps(self._parameters)

    def requested_output_names(self) -> list[str]:
        return self._wanted


def test_a_repository_for_triton(fastgan, models, tmp_path: Path, monkeypatch) -> None:
    made = fastgan("serve", models / "classes.onnx", "--export-triton", tmp_path / "repository")
    assert made.code == 0, made.err
    config, model = under_triton(tmp_path / "repository" / "classes", monkeypatch)
    assert (config.name, config.backend) == ("classes", "python")
    assert all(port.optional for port in config.input)
    assert {port.name for port in config.output} == {"image", "image_uint8", "image_png"}
    two, wrong, given = model.execute(
        [
            TritonRequest(["image"], {"seed": 4, "n": 2}),
            TritonRequest(["image"], {"n": 0}),
            TritonRequest(["image"], {}, TritonTensor("labels", np.array([2]))),
        ]
    )
    generator = library.load(models / "classes.onnx")
    near(two[0][0].as_numpy(), generator.generate(2, seed=4))
    assert wrong == ([], "n: found 0; needed a whole number of at least 1")
    near(given[0][0].as_numpy(), generator.generate(1, labels=2))
    again = fastgan("serve", models / "classes.onnx", "--export-triton", tmp_path / "repository")
    assert (again.code, "which is there" in again.err) == (2, True)


def test_pictures_under_triton(fastgan, tmp_path: Path, monkeypatch) -> None:
    """Triton has one type for each name: bytes and files have names of their own."""
    assert fastgan("serve", "superres-x2", "--export-triton", tmp_path).code == 0
    config, model = under_triton(tmp_path / "superres-x2", monkeypatch)
    generator = library.load("superres-x2")
    name, out = generator.signature.image.name, f"{generator.signature.made.name}_uint8"
    types_ = {port.name: port.data_type for port in config.input}
    random = np.random.default_rng(new_random().randrange(2**32))
    image = random.integers(0, 255, (1, 10, 12, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(image[0]).save(file, "PNG")
    forms = {f"{name}_uint8": image, f"{name}_file": np.array([file.getvalue()], object)}
    assert forms.keys() < types_.keys()
    asked = [TritonRequest([out], {}, TritonTensor(*form)) for form in forms.items()]
    for (answer,), error in model.execute(asked):
        assert error is None
        np.testing.assert_array_equal(answer.as_numpy(), generator(image, format="uint8").numpy())
