"""Pickles and copies of a Generator make the same images, or say why not."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

import fastgan
from fastgan import ModelFileError
from tests.unit.inputs.test_named_inputs import psi_model


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "g.onnx").write_bytes(psi_model())
    return tmp_path / "g.onnx"


def pickled(generator: fastgan.Generator) -> fastgan.Generator:
    return pickle.loads(pickle.dumps(generator))


@pytest.mark.parametrize("backend", ["torch", "ort"])
@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda g: pickle.loads(pickle.dumps(g))]
)
def test_copies_make_the_same_images(path: Path, backend: str, copied) -> None:
    signature = {"outputs": [{"name": "y", "kind": "image", "range": [0.0, np.float32(1)]}]}
    limits = fastgan.Limits(nodes=50)
    for source in (path, path.read_bytes(), os.path.relpath(path)):
        generator = fastgan.load(
            source, device="cpu", backend=backend, strict=True, limits=limits, signature=signature
        )
        expected = generator.generate(3, seed=5, psi=0.7)
        other = copied(generator)
        assert other is not generator
        assert torch.equal(other.generate(3, seed=5, psi=0.7), expected)
        for name in ("backend", "device", "precision", "signature", "refusals"):
            assert getattr(generator, name) == getattr(other, name), name
        assert torch.equal(copied(other).generate(3, seed=5, psi=0.7), expected)


def test_a_shipped_model_by_its_name() -> None:
    generator = fastgan.load("dcgan-digits", device="cpu")
    data = pickle.dumps(generator)
    assert len(data) < 10_000
    assert torch.equal(pickle.loads(data).generate(2), generator.generate(2))


def test_in_another_process(path: Path, tmp_path: Path) -> None:
    generator = fastgan.load(path, device="cpu")
    (tmp_path / "pickle").write_bytes(pickle.dumps(generator))
    code = "import pickle, sys, numpy; g = pickle.load(open(sys.argv[1], 'rb'));"
    code += "numpy.save(sys.argv[2], g.generate(2, seed=9).numpy())"
    arguments = [str(tmp_path / "pickle"), str(tmp_path / "made.npy")]
    subprocess.run([sys.executable, "-c", code, *arguments], check=True, cwd="/")
    made = torch.from_numpy(np.load(tmp_path / "made.npy"))
    assert torch.allclose(made, generator.generate(2, seed=9), atol=1e-6)


def test_a_file_that_has_changed(path: Path) -> None:
    generator = fastgan.load(path, device="cpu")
    data = pickle.dumps(generator)
    path.write_bytes(psi_model(name="w"))
    with pytest.raises(ModelFileError, match="changed since it was loaded"):
        pickle.dumps(generator)
    with pytest.raises(ModelFileError, match="SHA-256"):
        pickle.loads(data)
    path.unlink()
    with pytest.raises(ModelFileError, match="no such file"):
        pickle.loads(data)
    assert generator.generate(1).isfinite().all()


def test_weights_beside_the_file(path: Path) -> None:
    model = onnx.load(path)
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=999)
    generator = fastgan.load(path, device="cpu", backend="torch")
    expected = generator.generate(2)
    data = pickle.dumps(generator)
    assert torch.equal(pickle.loads(data).generate(2), expected)
    weights = path.with_name("weights.bin")
    weights.write_bytes(weights.read_bytes()[::-1])
    with pytest.raises(ModelFileError, match=r"weights\.bin.*SHA-256"):
        pickle.loads(data)


def test_one_that_was_not_loaded(path: Path) -> None:
    generator = fastgan.load(path, device="cpu")
    generator._origin = None
    with pytest.raises(fastgan.ArgumentError, match="pickle"):
        pickle.dumps(generator)
