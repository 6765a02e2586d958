"""Small models in files, where a worker of another process finds them too."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from tests.cli.conftest import as_a_user, build, fastgan

__all__ = ["as_a_user", "fastgan"]


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """rgb.onnx, and classes.onnx, which has four classes with names."""
    folder = tmp_path_factory.mktemp("models")
    onnx.save(build(), folder / "rgb.onnx")
    onnx.save(build(conditional=True), folder / "classes.onnx")
    return folder
