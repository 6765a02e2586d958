"""Recurrent layers against torch.nn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from fastgan.errors import UnsupportedError
from tests.unit.ops.onnx_nodes import close, floats, run

pytestmark = pytest.mark.usefixtures("one_thread")


#: Where ONNX has each of torch's gates.
GATES = {"RNN": (0,), "GRU": (1, 0, 2), "LSTM": (0, 3, 1, 2)}


@pytest.mark.parametrize("op", ["RNN", "GRU", "LSTM"])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("lengths", [None, [5, 2, 4]])
def test_recurrent_layers_as_in_torch(op: str, bidirectional: bool, lengths: Any) -> None:
    module = getattr(torch.nn, op)(4, 6, bidirectional=bidirectional)
    x = torch.randn(5, 3, 4)
    directions = ["", "_reverse"][: 1 + bidirectional]

    def gathered(kind: str) -> np.ndarray:
        rows = []
        for suffix in directions:
            gates = getattr(module, f"{kind}_l0{suffix}").detach().chunk(len(GATES[op]))
            rows.append(torch.cat([gates[i] for i in GATES[op]]))
        return torch.stack(rows).numpy()

    biases = np.concatenate([gathered("bias_ih"), gathered("bias_hh")], axis=1)
    # ONNX has update, reset, new; torch has reset, update, new with the linear map first.
    extra = {"linear_before_reset": 1} if op == "GRU" else {}
    direction = "bidirectional" if bidirectional else "forward"
    inputs = [x.numpy(), gathered("weight_ih"), gathered("weight_hh"), biases]
    if lengths is not None:
        inputs.append(np.array(lengths, np.int32))
    results = run(
        op,
        22,
        *inputs,
        outputs=3 if op == "LSTM" else 2,
        hidden_size=6,
        direction=direction,
        activations={"RNN": ["Tanh"], "GRU": ["Sigmoid", "Tanh"]}.get(
            op, ["Sigmoid", "Tanh", "Tanh"]
        )
        * len(directions),
        **extra,
    )
    with torch.no_grad():
        if lengths is None:
            y, last = module(x)
        else:
            packed = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, enforce_sorted=False)
            packed, last = module(packed)
            y, _ = torch.nn.utils.rnn.pad_packed_sequence(packed)
    expected = y.reshape(5, 3, len(directions), 6).transpose(1, 2)
    close(results[0], expected)
    for got, state in zip(results[1:], last if op == "LSTM" else (last,), strict=True):
        close(got, state)


@pytest.mark.parametrize(
    ("op", "wrong"),
    [
        ("RNN", {"activations": ["Cos"]}),
        ("GRU", {"activations": ["Sigmoid"]}),
        ("LSTM", {"activations": ["Sigmoid", "Tanh", "Tanh"] * 2}),
        ("LSTM", {"clip": -1.0}),
    ],
)
def test_what_no_layer_has_is_refused(op: str, wrong: dict[str, Any]) -> None:
    rows = 4 * len(GATES[op])
    x, w, r = floats(2, 1, 3), floats(1, rows, 3), floats(1, rows, 4)
    with pytest.raises(UnsupportedError, match=next(iter(wrong))):
        run(op, 14, x, w, r, outputs=2, hidden_size=4, **wrong)


@pytest.mark.parametrize("op", ["RNN", "GRU", "LSTM"])
@pytest.mark.parametrize("name", ["W", "R", "B", "initial_h"])
def test_weights_of_another_size_are_refused(op: str, name: str) -> None:
    """PyTorch's dynamo exporter writes such a file of an LSTM with projections."""
    rows = 4 * len(GATES[op])
    given = {
        "W": floats(1, rows, 3),
        "R": floats(1, rows, 4),
        "B": floats(1, 2 * rows),
        "lengths": None,
        "initial_h": floats(1, 1, 4),
    }
    given[name] = given[name][..., :-1]
    with pytest.raises(UnsupportedError, match=r"of shape .* where .* is needed"):
        run(op, 14, floats(2, 1, 3), *given.values(), outputs=2, hidden_size=4)
