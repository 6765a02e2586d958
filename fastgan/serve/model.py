"""What KServe calls for a model, and what it gets of a request in its own types."""

from __future__ import annotations

import struct
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fastgan.errors import FastganError
from fastgan.serve import metrics
from fastgan.serve.batching import Batcher, BusyError, DrainingError
from fastgan.serve.framework import (
    InferInput,
    InferOutput,
    InferRequest,
    InferResponse,
    InvalidInput,
    Model,
    ResourceExhausted,
    Unavailable,
    to_np_dtype,
)
from fastgan.serve.requests import Array, describe

if TYPE_CHECKING:
    from fastgan.generator import Generator


#: How a request may end, for metrics.
_OUTCOMES = ("answered", "invalid", "refused", "failed")


class ServedModel(Model):  # type: ignore[misc]
    """A generator under a name.

    Args:
        batcher: runs its requests.
    """

    def __init__(self, name: str, generator: Generator, batcher: Batcher) -> None:
        super().__init__(name)
        self.generator, self.batcher = generator, batcher
        self.inputs, self.outputs = describe(generator)
        self.ready = True
        metrics.FALLBACKS.labels(name).set(len(generator.refusals))
        self._seconds = metrics.SECONDS.labels(name)
        self._ended = {outcome: metrics.REQUESTS.labels(name, outcome) for outcome in _OUTCOMES}

    def load(self) -> bool:
        """KServe calls it for a model that is not ready: one that drains stays so."""
        return bool(self.ready)

    def get_input_types(self) -> list[dict[str, Any]]:
        """As the protocol's metadata."""
        return [_bare(port) for port in self.inputs]

    def get_output_types(self) -> list[dict[str, Any]]:
        """As the protocol's metadata."""
        return [_bare(port) for port in self.outputs]

    async def predict(self, payload: Any, headers: Any = None, response_headers: Any = None) -> Any:
        """Answer a request.

        Raises:
            InvalidInput: it can't be answered; the message says why.
            ResourceExhausted: too many wait.
            Unavailable: the server ends.
        """
        began, outcome = time.perf_counter(), "failed"
        try:
            answer = await self._answer(payload)
            outcome = "answered"
            return answer
        except (FastganError, InvalidInput) as error:
            outcome = "invalid"
            raise InvalidInput(str(error)) from None
        except BusyError:
            outcome = "refused"
            raise ResourceExhausted("too many requests wait: try again later") from None
        except DrainingError:
            outcome = "refused"
            raise Unavailable("the server is ending") from None
        except MemoryError:
            raise ResourceExhausted("not enough memory for this request") from None
        finally:
            self._ended[outcome].inc()
            self._seconds.observe(time.perf_counter() - began)

    async def _answer(self, payload: Any) -> InferResponse:
        if not isinstance(payload, InferRequest):
            raise InvalidInput("this server speaks the V2 protocol: POST /v2/models/NAME/infer")
        for port in (*payload.inputs, *(payload.request_outputs or ())):
            if "shared_memory_region" in (port.parameters or {}):
                where = f"{port.name!r}: found a region of shared memory"
                raise InvalidInput(f"{where}; needed bytes in the message: this server maps none")
        wanted = [output.name for output in payload.request_outputs or ()]
        binary = payload.from_grpc or _all_binary(payload)
        if any(name.endswith("_png") for name in wanted) and not binary:
            raise InvalidInput("encoded pictures go as binary tensors: ask for binary_data")
        together = self.batcher.together
        asked = together.reader.read(
            {one.name: _array(one) for one in payload.inputs}, _parameters(payload), wanted
        )
        found = await self.batcher.run(asked)
        outputs = []
        for name, array in found.items():
            output = InferOutput(name, list(array.shape), together.reader.outputs[name])
            output.set_data_from_numpy(array, binary_data=binary)
            outputs.append(output)
        return InferResponse(
            payload.id or "", self.name, outputs,
            use_binary_outputs=binary, requested_outputs=payload.request_outputs,
        )  # fmt: skip


def _bare(port: Mapping[str, Any]) -> dict[str, Any]:
    return {key: port[key] for key in ("name", "datatype", "shape")}


def _all_binary(request: InferRequest) -> bool:
    if request.request_outputs:
        return all(output.binary_data for output in request.request_outputs)
    return bool(request.use_binary_outputs)


def _array(tensor: InferInput) -> Array:
    """What a tensor of a request holds.

    Raises:
        InvalidInput: its data is not what its type and shape say.
    """
    dtype = to_np_dtype(tensor.datatype)
    where = f"input {tensor.name!r}: found"
    if dtype is None:
        raise InvalidInput(f"{where} datatype {tensor.datatype}; needed one of the protocol")
    if any(side < 0 for side in tensor.shape):
        raise InvalidInput(f"{where} shape {tensor.shape}; needed sizes of at least 0")
    try:
        if tensor.datatype == "BYTES" and tensor._raw_data is None:
            flat = np.empty(len(tensor.data), dtype=object)
            flat[:] = [one.encode() if isinstance(one, str) else one for one in tensor.data]
            if not all(isinstance(one, bytes) for one in flat):
                raise ValueError("values that are no bytes")
            return flat.reshape(tensor.shape)
        array: Array = tensor.as_numpy()
        return array
    except (ValueError, TypeError, OverflowError, struct.error) as error:
        raise InvalidInput(f"{where} {error}; needed {tensor.datatype} {tensor.shape}") from None


def _parameters(request: InferRequest) -> dict[str, Any]:
    """Parameters by name, but for those that are the protocol's own."""
    found = {}
    for name, value in (request.parameters or {}).items():
        if name == "binary_data_output":
            continue
        if hasattr(value, "WhichOneof"):
            choice = value.WhichOneof("parameter_choice")
            if choice is None:  # a kind that KServe's messages do not have, such as a double
                raise InvalidInput(
                    f"parameter {name!r}: found a type that this protocol has not; needed a truth "
                    "value, an integer or a text such as '0.7', or a tensor of that name"
                )
            value = getattr(value, choice)
        found[name] = value
    return found
