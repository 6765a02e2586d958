"""Model: a file that was read and checked, and what its inputs and outputs are."""

from __future__ import annotations

from dataclasses import dataclass, replace

from fastgan.model.file import ModelFile
from fastgan.model.origin import Origin
from fastgan.model.signature import Output, Shapes, Signature, input_shapes


@dataclass(frozen=True, slots=True)
class Model:
    """What `fastgan.loading.open_model` finds, before any backend has it.

    Attributes:
        file: the checked file; images of its graph are channels first.
        signature: its inputs and outputs, with the batch that the graph was found to run at.
        declared: the same with the batch that the file declares, to which a runtime holds it.
        origin: where the file is, and how it was opened.
    """

    file: ModelFile
    signature: Signature
    declared: Signature
    origin: Origin | None = None

    @property
    def name(self) -> str:
        """What messages call it."""
        return self.file.name

    @property
    def output(self) -> Output:
        """The output that `Generator.generate` returns."""
        return self.signature.made

    def shapes(self, batch: int) -> Shapes:
        """The shape of each input for so many samples; a frozen batch stays."""
        return input_shapes(self.signature, batch)

    def opened(self) -> Model | None:
        """The same with its frozen batch open; None where it has none, or what has it is unclear.

        Whether it runs so is for whoever plans it to see.
        """
        signature = self.signature.with_open_batch()
        return None if signature is None else replace(self, signature=signature)
