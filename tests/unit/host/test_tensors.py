"""Tensors and arrays as callers have them: each number is read as it is, or they are refused."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fastgan.errors import ArgumentError
from fastgan.host.tensors import dense, kind_of
from tests import drawing

NUMBERS = drawing.new_numpy().integers(0, 9, (4, 5, 3))


@pytest.mark.parametrize("dtype", ["<f4", ">f4", ">u2", "|u1", ">i8"])
def test_arrays_as_they_lie(dtype: str) -> None:
    array = NUMBERS.astype(dtype)
    fixed = array.copy()
    fixed.flags.writeable = False
    views = (array, array[::-1, :, ::-1], array.T, array[1:, ::2], fixed, fixed[..., ::-1])
    for given in (*views, np.broadcast_to(array[:1], array.shape), array[:0]):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            made = dense("x", given, "numbers")
        np.testing.assert_array_equal(made.numpy(), given)
    assert not fixed.flags.writeable
    assert (fixed == array).all()


def test_a_plain_array_is_not_copied() -> None:
    array = np.zeros((3, 4), np.float32)
    made = dense("x", array, "numbers")
    array[1, 2] = 5
    assert made[1, 2] == 5


def test_numbers_that_are_negated_or_conjugated_when_they_are_read() -> None:
    """PyTorch marks such views; their memory holds the others."""
    z = torch.randn(6, 2, dtype=torch.complex64)
    for lazy in (torch._neg_view(z.real.contiguous()), z[:1, :1].conj().imag, z.conj().imag):
        assert lazy.is_neg()
        np.testing.assert_array_equal(dense("x", lazy, "").numpy(), lazy.resolve_neg().numpy())
        assert kind_of(lazy) is None
    np.testing.assert_array_equal(dense("x", z.conj(), "").numpy(), z.numpy().conj())
    assert kind_of(z.conj()) is None
    assert kind_of(z) == (z.shape, z.dtype, torch.strided, z.device)


@pytest.mark.filterwarnings("ignore")  # of what PyTorch calls beta, and will remove
@pytest.mark.parametrize("kind", ["sparse", "csr", "meta", "mkldnn", "nested", "quantized"])
def test_tensors_that_hold_no_rows_of_numbers(kind: str) -> None:
    x = torch.rand(3, 4)
    make: dict[str, Any] = {
        "sparse": x.to_sparse,
        "csr": x.to_sparse_csr,
        "meta": lambda: x.to("meta"),
        "mkldnn": x.to_mkldnn,
        "nested": lambda: torch.nested.nested_tensor([x, x]),
        "quantized": lambda: torch.quantize_per_tensor(x, 0.1, 0, torch.qint8),
    }
    with pytest.raises(ArgumentError, match=r"x: found a .* tensor of layout .* needed a dense"):
        dense("x", make[kind](), "numbers")
    assert kind_of(x) is not None
    assert kind == "nested" or kind_of(make[kind]()) != kind_of(x)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (np.array([None]), "an array of object"),
        (np.zeros(3, [("a", "f4")]), "an array of"),
        (np.zeros(2, np.longdouble), "an array of"),
        ([[1], [1, 2]], r"\[\[1\], \[1, 2\]\]"),
        (None, "None"),
    ],
    ids=str,
)
def test_what_is_no_numbers(value: Any, found: str) -> None:
    with pytest.raises(ArgumentError, match=f"x: found {found}.*needed numbers"):
        dense("x", value, "numbers")


def test_of_other_types_and_gradients_there_is_no_kind() -> None:
    class Other(Tensor):
        pass

    x = torch.rand(2, 3)
    for value in (x.as_subclass(Other), x.clone().requires_grad_(), x.numpy(), None):
        assert kind_of(value) is None
