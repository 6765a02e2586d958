"""A model behind Ray Serve: PNGs of samples by HTTP, one warm engine in each replica.

    serve run deploy/ray_serve.yaml          # pip install 'fastgan[cpu]' 'ray[serve]'
    curl 'http://127.0.0.1:8000/?seed=7&start=3' > sample.png

For the Open Inference Protocol take `fastgan serve`; this is for applications that are on Ray.
"""

from __future__ import annotations

import io
import os
import re

from ray import serve
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

import fastgan
from fastgan.images.pixels import to_pil


@serve.deployment
class Samples:
    """Samples of a model."""

    def __init__(self, model: str) -> None:
        self._generator = fastgan.load(model)
        self._generator.warm_up([1])

    def __call__(self, request: Request) -> Response:
        """The picture of `?seed=` and `?start=`."""
        said = {n: v for n, v in request.query_params.items() if n in ("seed", "start")}
        numbers = {n: int(v) if re.fullmatch(r"-?\d{1,20}", v) else v for n, v in said.items()}
        try:
            image = self._generator.generate(1, format="uint8", **numbers)
        except ValueError as error:  # the engine's own, of its arguments
            return PlainTextResponse(str(error), 400)
        file = io.BytesIO()
        to_pil(image)[0].save(file, "PNG")
        return Response(file.getvalue(), media_type="image/png")


app = Samples.bind(os.environ.get("FASTGAN_MODEL", "dcgan-digits"))
