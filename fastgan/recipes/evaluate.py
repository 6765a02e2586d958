"""How good a generator of digits is, judged by a classifier of real ones.

    python -m fastgan.recipes.evaluate dcgan-digits [SAMPLES.png]

The classifier is trained here, in seconds, on the digits that the generator was trained on, and
scored on those that both never saw. The model file is run as its users run it: ONNX Runtime.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from fastgan.recipes import images

_SIZE = 32


@dataclass(frozen=True, slots=True)
class Figures:
    """What the samples of a model are worth.

    Attributes:
        accuracy: share of the held-out real digits that the classifier gets right.
        confidence: mean probability of the most likely class, over all samples.
        real_confidence: the same over the held-out real digits: what is to be reached.
        shares: the share of the samples in each class, 0 to 9.
        novelty: median distance of a sample to the nearest training image, over that of a
            held-out real digit. About 1: new digits. Near 0: copies.
        count: how many samples.
    """

    accuracy: float
    confidence: float
    real_confidence: float
    shares: tuple[float, ...]
    novelty: float
    count: int

    def __str__(self) -> str:
        shares = ", ".join(f"{digit}: {share:.1%}" for digit, share in enumerate(self.shares))
        return (
            f"mean confidence   {self.confidence:.3f} over {self.count} samples"
            f" (held-out real digits: {self.real_confidence:.3f})\n"
            f"classes           {shares}\n"
            f"novelty           {self.novelty:.2f}\n"
            f"the classifier    {self.accuracy:.1%} right on held-out real digits"
        )


def classifier(seed: int = 0, epochs: int = 15) -> nn.Module:
    """A small convolutional network, trained on the real training digits.

    Takes images [N, 1, 32, 32] in [-1, 1], gives logits [N, 10].
    """
    pictures, classes = images.digits("train", _SIZE)
    draw = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = nn.Sequential(
            nn.AvgPool2d(2),  # [N, 1, 16, 16]: the digits come from 8x8
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),  # [N, 16, 8, 8]
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),  # [N, 32, 4, 4]
            nn.Flatten(),
            nn.Linear(512, 10),
        )
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    for _ in range(epochs):
        for chosen in torch.split(torch.randperm(len(classes), generator=draw), 64):
            loss = functional.cross_entropy(network(pictures[chosen]), classes[chosen])
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
    return network.eval()


def sample(model: Path, count: int, seed: int = 0) -> torch.Tensor:
    """`count` images of a model file with one latent input, [count, 1, 32, 32], by ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    (latent,) = session.get_inputs()
    draw = torch.Generator().manual_seed(seed)
    latents = torch.randn(count, *latent.shape[1:], generator=draw)
    batches = (part.numpy() for part in torch.split(latents, 256))
    parts = [session.run(None, {latent.name: batch})[0] for batch in batches]
    return torch.cat([torch.from_numpy(part) for part in parts])


@torch.no_grad()
def judge(samples: torch.Tensor, network: nn.Module) -> Figures:
    """The figures of generated digits, [N, 1, 32, 32] in [-1, 1], by the `classifier`."""
    real, classes = images.digits("test", _SIZE)
    known, _ = images.digits("train", _SIZE)
    on_real, on_samples = network(real).softmax(1), network(samples).softmax(1)
    shares = on_samples.argmax(1).bincount(minlength=10) / len(samples)
    return Figures(
        accuracy=(on_real.argmax(1) == classes).float().mean().item(),
        confidence=on_samples.amax(1).mean().item(),
        real_confidence=on_real.amax(1).mean().item(),
        shares=tuple(shares.tolist()),
        novelty=(_to_nearest(samples, known) / _to_nearest(real, known)).item(),
        count=len(samples),
    )


def _to_nearest(pictures: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    exact = "donot_use_mm_for_euclid_dist"  # so that a copy is at distance 0
    distances = torch.cdist(pictures.flatten(1), known.flatten(1), compute_mode=exact)
    return distances.amin(1).median()


def main(source: str = "dcgan-digits", picture: str = "", *, count: int = 2000) -> None:
    """Print the figures of a shipped model, by name, or of a model file; draw 100 samples."""
    from fastgan import models

    file = models.path(source) if source in models.names() else Path(source)
    samples = sample(file, count)
    print(judge(samples, classifier()))
    if picture:
        images.grid(samples[:100], scale=2).save(picture)


if __name__ == "__main__":
    main(*sys.argv[1:3])
