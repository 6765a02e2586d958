"""A model repository for NVIDIA's Triton Inference Server, and the model that its backend runs.

The python backend of Triton imports `1/model.py` of the repository, which is `TritonPythonModel`
here; so fastgan has to be installed where Triton's Python finds it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fastgan.errors import ArgumentError, FastganError
from fastgan.model import side_file
from fastgan.scale.store import Folder
from fastgan.serve.requests import Limits, Reader, describe
from fastgan.serve.together import Together

_MODEL = """\
# Triton's python backend asks for a class of this name; fastgan has it.
from fastgan.serve.triton import TritonPythonModel

__all__ = ["TritonPythonModel"]
"""
#: What the names of an image's other forms end with.
_FORMS = {"UINT8": "_uint8", "BYTES": "_file"}
_KINDS = {"cpu": "KIND_CPU", "cuda": "KIND_GPU"}


def export(name: str, model: str, folder: Path, options: Mapping[str, Any], most: int = 64) -> Path:
    """Write `folder/name`, with the model's files in it.

    Args:
        name: what clients call it.
        model: as `fastgan.load` takes it.
        options: of `fastgan.load`; they hold under Triton too, but for the device's number.
        most: images of a request.

    Raises:
        ArgumentError: there is something of this name already.
        FastganError: as `fastgan.load`.
    """
    import fastgan

    generator = fastgan.load(model, **options)
    place = folder / name
    if place.exists():
        raise ArgumentError("--export-triton", f"{place}, which is there", "a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    with Folder(str(folder), folder).folder(name) as part:
        (part / "1").mkdir()
        (part / "1" / "model.py").write_text(_MODEL)
        stated = side_file.beside(generator.files[0])
        for path in (*generator.files, *([stated] if stated.exists() else [])):
            shutil.copy(path, part / "1" / path.name)
        said = {
            "file": generator.files[0].name,
            "options": json.dumps({**options, "device": "auto"}),
            "samples": str(most),
        }
        inputs, outputs = describe(generator)
        inputs = [*inputs, *(one for port in inputs for one in _other_forms(port))]
        kind = _KINDS[generator.device.type]
        (part / "config.pbtxt").write_text(_config(name, inputs, outputs, kind, said))
    return place


def _other_forms(port: Mapping[str, Any]) -> list[dict[str, Any]]:
    """An image as bytes and as a file: Triton has one type for each name, so these are others."""
    if port["parameters"]["kind"] not in ("image", "mask"):
        return []
    n, channels, *sides = port["shape"]
    shapes = {"UINT8": [n, *sides, channels], "BYTES": [n]}
    return [
        {"name": port["name"] + _FORMS[datatype], "datatype": datatype, "shape": shape}
        for datatype, shape in shapes.items()
    ]


def _config(
    name: str,
    inputs: Sequence[Mapping[str, Any]],
    outputs: Sequence[Mapping[str, Any]],
    kind: str,
    parameters: Mapping[str, str],
) -> str:
    """A ModelConfig of Triton's model_config.proto, as text."""
    lines = [f"name: {_text(name)}", 'backend: "python"', "max_batch_size: 0"]
    for field, ports in (("input", inputs), ("output", outputs)):
        for port in ports:
            datatype = "TYPE_STRING" if port["datatype"] == "BYTES" else f"TYPE_{port['datatype']}"
            dims = list(port["shape"])
            optional = " optional: true" if field == "input" else ""
            lines.append(
                f"{field} {{ name: {_text(port['name'])} data_type: {datatype} dims: {dims}"
                f"{optional} }}"
            )
    lines.append(f"instance_group {{ kind: {kind} count: 1 }}")
    lines += [
        f"parameters {{ key: {_text(key)} value {{ string_value: {_text(value)} }} }}"
        for key, value in parameters.items()
    ]
    return "\n".join(lines) + "\n"


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=True)


class TritonPythonModel:
    """What Triton's python backend makes of `model.py`: one for each instance of the model."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Load the model.

        Args:
            args: of the backend: where the repository is, its config, and the instance's device.
        """
        import fastgan

        config = json.loads(args["model_config"])
        said = {key: one["string_value"] for key, one in config["parameters"].items()}
        options = json.loads(said["options"])
        on_gpu = args["model_instance_kind"] == "GPU"
        options["device"] = f"cuda:{args['model_instance_device_id']}" if on_gpu else "cpu"
        path = Path(args["model_repository"], args["model_version"], said["file"])
        generator = fastgan.load(path, **options)
        reader = Reader(generator, Limits(samples=int(said["samples"])))
        self._together = Together(config["name"], generator, reader)
        ports = [port.name for port in generator.signature.inputs]
        self._forms = {
            name + ending: name
            for name in ports
            for ending in _FORMS.values()
            if name + ending not in ports
        }

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answer requests, as many at a time as may be."""
        import triton_python_backend_utils as backend

        answers: dict[int, Any] = {}
        waiting = []
        for index, request in enumerate(requests):
            try:
                waiting.append((index, self._read(request)))
            except FastganError as error:
                answers[index] = error
        while waiting:
            taken = [waiting.pop(0)]
            while waiting and self._together.fit([one for _, one in taken], waiting[0][1]):
                taken.append(waiting.pop(0))
            found = self._together.run([one for _, one in taken])
            answers |= {index: one for (index, _), one in zip(taken, found, strict=True)}
        return [_response(backend, answers[index]) for index in range(len(requests))]

    def _read(self, request: Any) -> Any:
        tensors = {self._port(one.name()): one.as_numpy() for one in request.inputs()}
        parameters = json.loads(request.parameters() or "{}")
        wanted = list(request.requested_output_names())
        known = self._together.reader.outputs
        if set(wanted) == set(known):  # Triton's word for a request that names none
            wanted = [self._together.reader.usual]
        return self._together.ready(self._together.reader.read(tensors, parameters, wanted))

    def _port(self, name: str) -> str:
        """The model's input that a tensor is of."""
        return self._forms.get(name, name)


def _response(backend: Any, answer: Any) -> Any:
    if isinstance(answer, BaseException):
        error = backend.TritonError(str(answer))
        return backend.InferenceResponse(output_tensors=[], error=error)
    return backend.InferenceResponse(
        output_tensors=[backend.Tensor(name, array) for name, array in answer.items()]
    )
