"""How a network is trained: the options that every recipe has; a recipe adds its own."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Loss = Literal["non-saturating", "minimax", "hinge"]
Distance = Literal["l1", "rmse"]
Precision = Literal["float32", "bf16"]


@dataclass(frozen=True)
class Settings:
    """What every recipe can be told.

    Attributes:
        steps: how long; not part of what a checkpoint must agree in.
        batch: images per step, real ones and generated ones each.
        lr: Adam's step size.
        lr_end: the last step's, as a multiple of `lr`; on the way there half a cosine (Loshchilov
            and Hutter, "SGDR", 2017). 1 keeps it as it is. The way is as long as `steps`.
        momentum: how much of earlier gradients stays in a step, Adam's first beta: little where two
            networks play against each other, 0.9 where one follows a distance.
        lr_discriminator: the discriminator's, as a multiple of `lr`: two time-scales.
        size: height and width of the training images, or of the patches of them.
        loss: what the generator minimises: "non-saturating" -log D(G(z)); "minimax"
            log(1 - D(G(z))), which the discriminator maximises; or "hinge".
        label_smoothing: real images are to be judged 1 - this; not with "hinge".
        r1: weight of the discriminator's squared gradient at real images; 0 leaves it out.
        spectral_norm: divide each of the discriminator's weights by its largest singular value.
        shift: images are translated by up to this share of their size before they are judged.
        average: how much of the averaged generator stays, per step; of a run's first steps less,
            so that it holds nothing of the untrained weights.
        precision: "bf16" computes the layers in bfloat16, where the processor has it.
        device: "cpu", "cuda", or "auto" for a GPU where there is one; a checkpoint fits both.
        patience: stop early, after so many sample grids without a better score on held-out data;
            0 never does. Only recipes that have a score take it.
    """

    steps: int = 2000
    batch: int = 16
    lr: float = 2e-4
    lr_end: float = 1.0
    momentum: float = 0.5
    lr_discriminator: float = 1.0
    seed: int = 0
    size: int = 32
    loss: Loss = "non-saturating"
    label_smoothing: float = 0.0
    r1: float = 0.0
    spectral_norm: bool = False
    shift: float = 0.0
    average: float = 0.998
    precision: Precision = "float32"
    device: str = "auto"
    patience: int = 0

    def fixed(self) -> dict[str, Any]:
        """What a checkpoint must agree in."""
        free = ("steps", "device", "patience")
        return {name: value for name, value in asdict(self).items() if name not in free}
