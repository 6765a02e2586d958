"""KServe's server and what it stands on: imported here, and here alone.

KServe parses the arguments of whichever program imports it, and logs every request: it is kept from
both.
"""

from __future__ import annotations

import logging
import sys
import warnings

from fastgan.errors import BackendError

_arguments, sys.argv = sys.argv, sys.argv[:1]
logging.getLogger("kserve").addHandler(logging.NullHandler())
try:
    import grpc
    import orjson
    import uvicorn
    from fastapi import FastAPI, Request
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import JSONResponse
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped, unused-ignore]
    from grpc_interceptor.exceptions import GrpcException, ResourceExhausted, Unavailable
    from kserve import InferInput, InferOutput, InferRequest, InferResponse, Model, ModelServer
    from kserve.errors import InvalidInput, ServerNotReady
    from kserve.model_server import app
    from kserve.protocol.dataplane import DataPlane
    from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import (
        add_GRPCInferenceServiceServicer_to_server as add_servicer,
    )
    from kserve.protocol.grpc.interceptors import ExceptionToStatusInterceptor
    from kserve.protocol.grpc.servicer import InferenceServicer
    from kserve.protocol.infer_type import RequestedOutput
    from kserve.protocol.model_repository_extension import ModelRepositoryExtension
    from kserve.protocol.rest.server import RESTServer
    from kserve.utils.numpy_codec import to_np_dtype
    from starlette.exceptions import HTTPException
except ImportError as error:
    instead = "pip install 'fastgan[serve]'"
    raise BackendError("serve", f"no {error.name}", "KServe", instead) from None
finally:
    sys.argv = _arguments
warnings.filterwarnings("ignore", "ORJSONResponse is deprecated")  # KServe's own use of it
for _name in ("kserve", "kserve.trace"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)

__all__ = [
    "DataPlane", "DecodeError", "ExceptionToStatusInterceptor", "FastAPI", "GrpcException",
    "HTTPException", "InferInput", "InferOutput", "InferRequest", "InferResponse",
    "InferenceServicer", "InvalidInput", "JSONResponse", "Model", "ModelRepositoryExtension",
    "ModelServer", "RESTServer", "Request", "RequestValidationError", "RequestedOutput",
    "ResourceExhausted", "ServerNotReady", "Unavailable", "add_servicer", "app", "grpc", "orjson",
    "to_np_dtype", "uvicorn",
]  # fmt: skip
