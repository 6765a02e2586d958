"""Slice in ONNX's shape inference, which ends the process where a size is below 0.

A kernel larger than its image leaves such a size. onnx, and ONNX Runtime while it makes a session,
clamp a Slice of it between 0 and less, which an assertion of the C++ library forbids. Here the
inference of Slice is onnx's own, and says nothing of such an axis; `sizes` then refuses the file.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import Any

from onnx import defs
from onnx.shape_inference import InferenceError

#: What a Slice is called whose inference is the one below; onnx.reference takes each name once.
DOMAIN, NAME = "fastgan.inference", "SliceOfSizes"


@functools.cache
def register() -> bool:
    """Make onnx know such a Slice, for the whole process.

    Returns:
        Whether it does; versions of onnx that cannot be told do not assert either.
    """
    if not hasattr(defs.OpSchema, "set_type_and_shape_inference_function"):
        return False
    for schema in defs.get_all_schemas_with_history():
        if schema.name == "Slice" and not schema.domain:
            ours: Any = defs.OpSchema(NAME, DOMAIN, schema.since_version)
            ours.set_type_and_shape_inference_function(_guarded(schema))
            defs.register_schema(ours)
    return True


def _guarded(schema: Any) -> Callable[[Any], None]:
    infer = schema.get_type_and_shape_inference_function()

    def guarded(context: Any) -> None:
        given = context.get_input_type(0)
        if given is None or any(dim.dim_value < 0 for dim in given.tensor_type.shape.dim):
            return
        with contextlib.suppress(InferenceError):  # as onnx itself does, of what C++ raises
            infer(context)

    return guarded
