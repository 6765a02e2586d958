"""tf32 is allowed where it was asked for alone, and the process's own settings come back."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
import torch

from fastgan.engine.cuda_settings import library


def _now() -> tuple[bool, bool, bool]:
    cudnn = torch.backends.cudnn
    return cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32, cudnn.benchmark


@pytest.fixture(params=[True, False])
def own(request: pytest.FixtureRequest) -> Iterator[None]:
    """A process's own settings, put back."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, matmul.allow_tf32
    cudnn.allow_tf32, matmul.allow_tf32 = request.param, not request.param
    yield
    cudnn.allow_tf32, matmul.allow_tf32 = before


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize("precision", ["fp32", "tf32", "fp16"])
def test_settings_come_back(precision: str) -> None:
    before = _now()
    asked = precision == "tf32"
    with library(precision, benchmark=True):
        assert _now() == (asked, asked, True)
        with library("tf32"):
            assert _now() == (True, True, True)
        assert _now() == (asked, asked, True)
    assert _now() == before
    with pytest.raises(KeyError), library(precision):
        raise KeyError
    assert _now() == before


def test_threads_do_not_mix_them_up() -> None:
    before, wrong = _now(), []

    def work(precision: str) -> None:
        for _ in range(200):
            with library(precision):
                if _now()[0] != (precision == "tf32"):
                    wrong.append(precision)

    threads = [threading.Thread(target=work, args=(p,)) for p in ("fp32", "tf32") * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert _now() == before


def test_a_process_that_uses_the_newer_names() -> None:
    code = """
import torch
from fastgan.engine.cuda_settings import library
conv, matmul = torch.backends.cudnn.conv, torch.backends.cuda.matmul
conv.fp32_precision, matmul.fp32_precision = "tf32", "tf32"
with library("fp32", benchmark=True):
    assert (conv.fp32_precision, matmul.fp32_precision) == ("ieee", "ieee")
assert (conv.fp32_precision, matmul.fp32_precision) == ("tf32", "tf32")
"""
    subprocess.run([sys.executable, "-c", code], check=True)
