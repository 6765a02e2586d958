"""Triton's interpreter does nothing in vain, and all that it did before."""

from dataclasses import replace

import pytest
import torch
import triton
import triton.language as tl

from fastgan.kernels import interpreting
from fastgan.kernels.types import INTERPRETED

pytestmark = pytest.mark.skipif(not INTERPRETED, reason="the interpreter's own affair")


@triton.jit
def _squares(x):
    return x * x


@triton.jit
def norms_kernel(x, out, COLUMNS: tl.constexpr):
    row = tl.program_id(0)
    values = tl.load(x + row * COLUMNS + tl.arange(0, COLUMNS))
    tl.store(out + row, tl.sum(_squares(values), axis=0))


def _norms(rows):
    x = torch.randint(-9, 9, (rows, 16), dtype=torch.int32)
    out = torch.empty(rows, dtype=torch.int32)
    norms_kernel[(rows,)](x, out, 16)
    assert torch.equal(out, x.square().sum(1, dtype=torch.int32))
    assert tl.core.is_builtin(tl.program_id)  # Triton's again


def test_the_language_is_replaced_once_a_launch(monkeypatch):
    from triton.runtime import interpreter

    replaced, replace_all = [], interpreter._patch_builtin

    def counted(where, *rest):
        replaced.append(where)
        replace_all(where, *rest)

    _norms(1)
    monkeypatch.setattr(interpreter, "_patch_builtin", counted)
    counts = []
    for rows in (1, 7):
        replaced.clear()
        _norms(rows)
        counts.append(len(replaced))
    assert counts[0] == counts[1] > 0


def test_no_sum_is_worked_out_twice_unless_somebody_looks(monkeypatch):
    from triton.runtime.interpreter import interpreter_builder, interpreter_semantic

    wide, cast = [], interpreter_semantic.cast

    def counted(value, kind, *rest):
        wide.append(kind == tl.int64)
        return cast(value, kind, *rest)

    monkeypatch.setattr(interpreter_semantic, "cast", counted)
    _norms(3)
    assert not any(wide)
    looking = replace(interpreter_builder.options, debug=True, sanitize_overflow=True)
    monkeypatch.setattr(interpreter_builder, "options", looking)
    interpreting.spare()
    _norms(3)
    assert any(wide)
    x = torch.full((1, 16), 2**20, dtype=torch.int32)
    with pytest.raises(Exception, match="overflow detected"):
        norms_kernel[(1,)](x, torch.empty(1, dtype=torch.int32), 16)
