"""Published checkpoints to ONNX files: spandrel knows the architecture by its weights.

    fastgan.exporting.checkpoint.export("RealESRGAN_x4plus.pth", "x4plus.onnx")

All of spandrel's models take and make images in [0, 1], which the file states. The sizes that they
take are left open where the exporter can, and read from the graph by `fastgan.load`.
"""

from __future__ import annotations

import logging
import os
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from fastgan import exporting
from fastgan.errors import ArgumentError, BackendError, ModelFileError, UnsupportedError
from fastgan.exporting.check import first_lines
from fastgan.host import arguments
from fastgan.model.signature import Signature

log = logging.getLogger("fastgan")

_PICKLED = (".pth", ".pt", ".ckpt", ".bin")
_SIDE = 64  # of the one size of a model whose sizes can't be left open, where it takes that


@dataclass(frozen=True, slots=True)
class Exported:
    """What became of a checkpoint.

    Attributes:
        architecture: as spandrel names it.
        scale: size of the result by size of the image.
        side: height and width, where the file takes one size alone.
        signature: what the file states.
    """

    architecture: str
    scale: int
    side: int | None
    signature: Signature


def export(
    checkpoint: str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    side: int | None = None,
    verify: bool = True,
) -> Exported:
    """Write the model of a checkpoint to an ONNX file. Only weights are read: nothing is unpickled.

    Args:
        checkpoint: a state dict of PyTorch's, or safetensors.
        path: the file to write.
        side: height and width of the images, which else stay open where they can.
        verify: compare the file with the module in ONNX Runtime.

    Raises:
        ModelFileError: the checkpoint can't be read, or holds more than weights.
        UnsupportedError: spandrel does not know it, or PyTorch can't export it.
        BackendError: spandrel, or what it needs, is not installed.
    """
    if side is not None:
        side = arguments.whole("side", side)
    found = _described(Path(checkpoint))
    module = _Called(found)
    rules = found.size_requirements
    least = rules.get_padding(1, 1)[0] + 1
    sides = [side] if side is not None else [None, max(least, -(-_SIDE // least) * least)]
    failures = []
    for one in sides:
        sizes: tuple[int | str, int | str] = ("height", "width") if one is None else (one, one)
        mask = (1, *sizes) if module.masked else None
        image = (found.input_channels, *sizes)
        # torch.export ends the process where a forward changes weights of its own (SPAN), so it is
        # not the first. Some hold the batch fixed whoever exports them (SwinIR, DRUNet).
        ways: tuple[tuple[Literal["dynamo", "torchscript"], int | None], ...] = (
            ("torchscript", None), ("dynamo", None), ("torchscript", 1),
        )  # fmt: skip
        for exporter, batch in ways:
            try:
                stated = exporting.export(
                    module, path, image=image, mask=mask, range=(0, 1), batch=batch,
                    exporter=exporter, verify=verify,
                )  # fmt: skip
                return Exported(found.architecture.name, found.scale, one, stated)
            except UnsupportedError as error:
                failures.append(error)
                log.info("%s: %s, %s: %s", checkpoint, exporter, sizes, error)
    raise failures[0]


class _Called(nn.Module):
    """A model of spandrel's as its own call runs it, without the padding and the clipping."""

    def __init__(self, descriptor: Any) -> None:
        super().__init__()
        self.model, self._run = descriptor.model, descriptor._call_fn
        self.masked = descriptor.purpose == "Inpainting"

    def forward(self, image: Tensor, mask: Tensor | None = None) -> Tensor:
        given = (image,) if mask is None else (image, mask)
        made: Tensor = self._run(self.model, *given)
        return made


def _described(path: Path) -> Any:
    """spandrel's descriptor of a checkpoint, in fp32 on the CPU."""
    try:
        import spandrel
    except ImportError as error:
        needed, how = "what knows architectures by their weights", "pip install 'fastgan[spandrel]'"
        raise BackendError("spandrel", f"none ({error})", needed, how) from None
    except RuntimeError as error:  # torchvision's, beside a torch of another build
        how = "install both from pytorch.org's one index"
        raise BackendError("torchvision", str(error), "one of torch's own build", how) from None
    state = spandrel.canonicalize_state_dict(_weights(path))
    try:
        found = spandrel.ModelLoader(device="cpu").load_from_state_dict(state)
    except spandrel.UnsupportedModelError:
        needed = f"one of the {len(spandrel.MAIN_REGISTRY)} that spandrel knows"
        instead = "for a module of your own: fastgan.export(module, path, ...)"
        raise UnsupportedError(str(path), "an unknown architecture", needed, instead) from None
    except Exception as error:  # whatever an architecture makes of weights that are not its own
        text = first_lines(error)
        raise UnsupportedError(str(path), text, "weights of this architecture") from error
    found.model.float().eval()
    return found


def _weights(path: Path) -> dict[str, Any]:
    suffix = path.suffix.lower()
    if suffix != ".safetensors" and suffix not in _PICKLED:
        needed = ", ".join((".safetensors", *_PICKLED))
        raise ArgumentError("checkpoint", f"{path.name}", f"a file that ends in {needed}")
    try:
        if suffix == ".safetensors":
            from safetensors.torch import load_file

            return dict(load_file(path))
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        found = "a pickle of more than weights, which could run anything"
        how = "save it as safetensors, or export the module: fastgan.export"
        raise ModelFileError(str(path), found, "a state dict", how) from None
    except Exception as error:
        text = first_lines(error)
        raise ModelFileError(str(path), text, "a checkpoint that can be read") from None
    if not isinstance(state, dict):
        raise ModelFileError(str(path), f"a {type(state).__name__}", "a state dict")
    return state
