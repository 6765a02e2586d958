"""KServe's servers, bound where they are told to be, with limits, and an end that loses nothing."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from fastgan.serve.address import taken
from fastgan.serve.framework import (
    DataPlane,
    DecodeError,
    ExceptionToStatusInterceptor,
    FastAPI,
    GrpcException,
    HTTPException,
    InferenceServicer,
    InferInput,
    InferRequest,
    InvalidInput,
    JSONResponse,
    ModelRepositoryExtension,
    ModelServer,
    Request,
    RequestedOutput,
    RequestValidationError,
    RESTServer,
    ServerNotReady,
    add_servicer,
    app,
    grpc,
    orjson,
    uvicorn,
)
from fastgan.serve.model import ServedModel
from fastgan.serve.requests import Limits

_T = TypeVar("_T")

#: Seconds that requests may still take once the server has been told to end.
_GRACE = 30
#: gRPC's codes, as HTTP says them.
_STATUS = {grpc.StatusCode.RESOURCE_EXHAUSTED: 429, grpc.StatusCode.UNAVAILABLE: 503}


@dataclass
class Server:
    """Serves models until it is told to end.

    Attributes:
        bound: where HTTP is listened for; see `bound`.
        grpc: a port of the same host; 0 for any that is free, and None for no gRPC.
        limits: of a request.
    """

    models: Sequence[ServedModel]
    bound: socket.socket
    grpc: int | None = 8081
    limits: Limits = field(default_factory=Limits)
    _remote: Any = None

    def run(self, ready: Callable[[str, str | None], object]) -> None:
        """Serve until SIGTERM or SIGINT, then answer what was taken.

        Args:
            ready: called with the addresses once requests are answered.

        Raises:
            ArgumentError: gRPC's port is taken.
        """
        asyncio.run(self._serve(ready))

    async def _serve(self, ready: Callable[[str, str | None], object]) -> None:
        kserve = ModelServer(enable_latency_logging=False, grace_period=_GRACE)
        for model in self.models:
            kserve.register_model(model)
        plane = _Plane(kserve.registered_models)
        fixed = _Fixed(kserve.registered_models)
        http = _http(plane, fixed, self.limits)
        remote = None if self.grpc is None else _Thread()
        port = 0 if remote is None else await remote.run(self._grpc(plane, fixed))
        stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopping.set)
        serving = asyncio.create_task(http.serve(sockets=[self.bound]))
        while not http.started and not serving.done():
            await asyncio.sleep(0.01)
        host, number = self.bound.getsockname()[:2]
        ready(f"http://{host}:{number}", None if remote is None else f"{host}:{port}")
        await asyncio.wait(
            [serving, asyncio.create_task(stopping.wait())], return_when=asyncio.FIRST_COMPLETED
        )
        await self._drain(http)
        if remote is not None:
            await remote.run(self._remote.stop(grace=_GRACE))
            remote.close()
        await serving

    async def _drain(self, http: uvicorn.Server) -> None:
        for model in self.models:
            model.ready = False  # what asks for readiness sends no more
        drained = [model.batcher.drain() for model in self.models]
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.gather(*drained), _GRACE)
        http.should_exit = True

    async def _grpc(self, plane: DataPlane, fixed: ModelRepositoryExtension) -> int:
        """Serve gRPC from the loop that this runs on; the port."""
        host = self.bound.getsockname()[0]
        options = [
            ("grpc.max_receive_message_length", self.limits.bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),  # or two servers share a port, and each gets some requests
            # Calls that the loop has not come to are ended after 30 seconds otherwise.
            ("grpc.server_max_unrequested_time_in_server", 3600),
        ]
        interceptors = (_Parsing(), ExceptionToStatusInterceptor())
        server = grpc.aio.server(interceptors=interceptors, options=options)
        add_servicer(InferenceServicer(plane, fixed), server)
        try:
            port = server.add_insecure_port(f"{host}:{self.grpc}")
        except RuntimeError:
            raise taken("--grpc", host, self.grpc or 0) from None
        await server.start()
        self._remote = server
        return int(port)


class _Parsing(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Calls whose message is none of the protocol's are invalid, which gRPC calls unknown."""

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        """The handler of a call, that gets its bytes."""
        handler = await continuation(details)
        if handler is None or handler.unary_unary is None:
            return handler

        async def parsed(data: bytes, context: Any) -> Any:
            try:
                request = handler.request_deserializer(data)
            except DecodeError as error:
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
            return await handler.unary_unary(request, context)

        return grpc.unary_unary_rpc_method_handler(
            parsed, response_serializer=handler.response_serializer
        )


class _Thread:
    """An event loop on a thread of its own.

    gRPC takes one call in a turn of its loop. On HTTP's, where a turn is as long as all requests
    that have come, it would take a few calls a second and leave the others waiting.
    """

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    async def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """What becomes of a coroutine there."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    def close(self) -> None:
        """End the loop and the thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


# HTTP --------------------------------------------------------------------------------------------


def _http(plane: DataPlane, fixed: ModelRepositoryExtension, limits: Limits) -> uvicorn.Server:
    @app.get("/v2/models/{name}")  # type: ignore[untyped-decorator, unused-ignore]
    async def metadata(name: str) -> Any:
        """KServe's own, with kinds, ranges and classes, for which its type has no place."""
        model = plane.get_model_from_registry(name)
        told = await plane.model_metadata(name)
        return {**told, "versions": [], "inputs": model.inputs, "outputs": model.outputs}

    rest = RESTServer(
        "kserve.model_server:app", plane, fixed, 0, grace_period=_GRACE, timeout_keep_alive=65
    )
    rest.create_application()
    app.add_exception_handler(GrpcException, _said_by_grpc)
    app.add_exception_handler(RequestValidationError, _malformed)
    app.add_exception_handler(InvalidInput, _invalid)
    app.add_exception_handler(HTTPException, _refused)
    app.add_middleware(_Gate, most=limits.bytes)
    config = rest.config
    config.access_log = False
    config.log_level = "critical"
    return _Uvicorn(config)


class _Uvicorn(uvicorn.Server):
    """Uvicorn, which would take the signals from us."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _said_by_grpc(_: Request, error: Any) -> JSONResponse:
    return JSONResponse({"error": error.details}, _STATUS.get(error.status_code, 500))


async def _malformed(_: Request, error: Any) -> JSONResponse:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return JSONResponse({"error": f"{where}: {first['msg']}"}, 400)


async def _invalid(_: Request, error: Any) -> JSONResponse:
    return JSONResponse({"error": str(error)}, 400)


async def _refused(_: Request, error: Any) -> JSONResponse:
    """What Starlette says itself: of a body that is no JSON, or a path that is none."""
    return JSONResponse({"error": str(error.detail)}, error.status_code, error.headers)


class _Gate:
    """Bodies no larger than allowed; and a client that goes away ends its request.

    Starlette reads a body of any size, and answers a client that has gone.
    """

    def __init__(self, app: FastAPI, most: int) -> None:
        self._app, self._most = app, most

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        body = b""
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return
            body += message.get("body", b"")
            if len(body) > self._most or _length(scope) > self._most:
                found = f"a body of more than {self._most} bytes"
                await JSONResponse({"error": found}, 413)(scope, receive, send)
                return
            if not message.get("more_body"):
                break
        unread = [{"type": "http.request", "body": body}]

        async def again() -> Any:
            return unread.pop() if unread else await asyncio.Event().wait()

        work = asyncio.ensure_future(self._app(scope, again, send))
        gone = asyncio.ensure_future(receive())
        await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            work.cancel()
        gone.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work


def _length(scope: Any) -> int:
    said = dict(scope["headers"]).get(b"content-length", b"0")
    return int(said) if said.isdigit() else 0


# What KServe asks of its parts --------------------------------------------------------------------


class _Plane(DataPlane):  # type: ignore[misc]
    """KServe's, with readiness that tells of draining, and tensors left as the bytes they came as.

    KServe makes a list of every binary tensor, and a text of its bytes, which a picture is not.
    """

    async def ready(self) -> bool:
        """Whether requests are taken."""
        if not all(model.ready for model in self.model_registry.get_models().values()):
            raise ServerNotReady
        return True

    def metadata(self) -> dict[str, Any]:
        """Of the server."""
        from fastgan import __version__

        return {
            "name": "fastgan",
            "version": __version__,
            "extensions": ["binary_tensor_data", "parameters"],
        }

    def decode_inference_request(self, body: Any, headers: Any, model_name: str) -> InferRequest:
        """A request of JSON alone, or of JSON and the bytes of its tensors behind it."""
        if not isinstance(body, bytes):
            return InferRequest.from_inference_request(body, model_name)
        try:
            # Without the header all of it is JSON, whatever the type of the body says.
            length = int(headers.get("inference-header-content-length", len(body)))
            said, rest = orjson.loads(body[:length]), body[length:]
            inputs = []
            for tensor in said.get("inputs", []):
                parameters = tensor.get("parameters") or {}
                one = InferInput(
                    str(tensor["name"]), [int(side) for side in tensor["shape"]],
                    str(tensor["datatype"]), tensor.get("data"), parameters,
                )  # fmt: skip
                if (size := parameters.get("binary_data_size")) is not None:
                    if not 0 <= size <= len(rest):
                        raise ValueError(f"binary_data_size {size}, with {len(rest)} bytes left")
                    one._raw_data, rest = rest[:size], rest[size:]
                inputs.append(one)
            outputs = [
                RequestedOutput(str(output["name"]), output.get("parameters"))
                for output in said.get("outputs") or []
            ]
            name, parameters = said.get("id"), said.get("parameters") or {}
            if not isinstance(name, str | None) or not isinstance(parameters, dict):
                raise ValueError("an id that is no text, or parameters that are no object")
            return InferRequest(
                model_name, inputs, name, parameters=parameters, request_outputs=outputs or None
            )
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            why = f"no {error}" if isinstance(error, KeyError) else str(error)
            raise InvalidInput(f"a request that can't be read: {why}") from None


class _Fixed(ModelRepositoryExtension):  # type: ignore[misc]
    """The models that it was started with: a client can't load one, nor end one for all others."""

    async def load(self, model_name: str) -> None:
        """Refused.

        Raises:
            InvalidInput: always.
        """
        raise InvalidInput("the models of this server are those that it was started with")

    unload = load
