"""What every recipe shares: options, networks, their optimizers, the average worth keeping."""

from __future__ import annotations

import copy
import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

import torch
from torch import nn

from fastgan.errors import ArgumentError
from fastgan.host import processor

log = logging.getLogger("fastgan")

Made = TypeVar("Made")
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


class Stateful(Protocol):
    """A network, an optimizer: anything whose state goes into a checkpoint."""

    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> object: ...


class System(ABC):
    """Networks that are trained together; a recipe adds `step`, `samples` and `export`.

    What is kept of `generator` is not its last state but a running average of all of them, which
    is better than any.

    Args:
        name: the recipe's name, as in `fastgan train NAME`.
        generator: what is exported.
        others: the other networks by name; the discriminator is "discriminator".
        data: a line that says which data it is, which a checkpoint must agree in.
    """

    def __init__(
        self, name: str, settings: Settings, data: str, generator: nn.Module, **others: nn.Module
    ) -> None:
        self.name, self.options, self._data = name, settings, data
        self.device = device_of(settings)
        asked = settings.precision == "bf16"
        self._bfloat16 = asked and (self.device.type != "cpu" or processor.has_bfloat16())
        if asked and not self._bfloat16:  # torch would take many times as long as in fp32
            log.warning("%s: trained in fp32: this CPU has no instructions for bf16", name)
        self.generator = generator.to(self.device)
        self.average = copy.deepcopy(generator).requires_grad_(False)
        self._networks = {"generator": generator, **others}
        self._optimizers = {}
        for key, network in self._networks.items():
            network.to(self.device)
            self._optimizers[key] = torch.optim.Adam(
                network.parameters(), self.rate(key, 0), (settings.momentum, 0.99)
            )

    @property
    def settings(self) -> Mapping[str, object]:
        """What a checkpoint must agree in: everything but how long, where and when to stop."""
        return {**self.options.fixed(), "images": self._data}

    @property
    def state(self) -> Mapping[str, Stateful]:
        """Everything that `step` changes."""
        optimizers = {f"{name}_optimizer": part for name, part in self._optimizers.items()}
        return {**self._networks, "average": self.average, **optimizers}

    @abstractmethod
    def step(self, draw: torch.Generator) -> dict[str, float]:
        """Train one step with random numbers from `draw` alone; return the losses by name."""

    @abstractmethod
    def samples(self, count: int) -> torch.Tensor:
        """The same samples each time, at most `count`, [N, C, H, W] in [-1, 1]."""

    def score(self) -> float | None:
        """How bad it is on held-out data, lower is better; None where nothing tells."""
        return None

    def finished(self) -> nn.Module:
        """The averaged generator, on the CPU, ready to export."""
        return copy.deepcopy(self.average).cpu().eval()

    @abstractmethod
    def export(self, path: Path) -> None:
        """Write the finished generator as ONNX."""

    def autocast(self) -> torch.autocast:
        """Layers in bfloat16 where the settings ask for it and the processor has it."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self._bfloat16)

    def rate(self, network: str, step: int) -> float:
        """This network's step size after so many steps of the generator."""
        s = self.options
        first = s.lr * (s.lr_discriminator if "discriminator" in network else 1.0)
        done = min(1.0, step / s.steps)
        return first * (s.lr_end + (1 - s.lr_end) * (1 + math.cos(math.pi * done)) / 2)

    def descend(self, loss: torch.Tensor, *networks: str) -> None:
        """One step of these networks' optimizers down the gradient of `loss`."""
        step = self.steps_done("generator")
        for name in networks:
            self._optimizers[name].zero_grad()
            self._optimizers[name].param_groups[0]["lr"] = self.rate(name, step)
        torch.autograd.backward(loss)
        for name in networks:
            self._optimizers[name].step()

    def steps_done(self, network: str) -> int:
        """How often this network's optimizer has stepped, earlier parts of a run included."""
        states = self._optimizers[network].state.values()
        return next((int(state["step"]) for state in states), 0)

    @torch.no_grad()
    def update_average(self) -> None:
        """Let the average follow the generator; the untrained weights have no share in it.

        As Adam corrects its averages for where they start: Kingma and Ba (2014), section 3.
        """
        keep, step = self.options.average, max(1, self.steps_done("generator"))
        follow = 1 / step if keep == 1 else (1 - keep) / (1 - keep**step)
        pairs = zip(self.average.parameters(), self.generator.parameters(), strict=True)
        for mean, weight in pairs:
            mean.lerp_(weight, follow)


def device_of(settings: Settings) -> torch.device:
    """Where to train.

    Raises:
        ArgumentError: there is no such device here.
    """
    gpu = torch.cuda.is_available()
    if settings.device == "auto":
        return torch.device("cuda" if gpu else "cpu")
    if settings.device not in (("cpu", "cuda") if gpu else ("cpu",)):
        needed = "auto, cpu or cuda" if gpu else "auto or cpu: torch sees no GPU here"
        raise ArgumentError("device", repr(settings.device), needed)
    return torch.device(settings.device)


def built(seed: int, make: Callable[[], Made]) -> Made:
    """What `make()` makes with the weights of this seed; the global generator is untouched."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()


def fixed(seed: int = 0) -> torch.Generator:
    """A generator of random numbers that starts the same each time."""
    return torch.Generator().manual_seed(seed)
