"""Attention in the native graph: what is found to be it, and what it computes, beside PyTorch."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from fastgan.engine.native import attention, graph
from fastgan.engine.native.lowering import Lowering
from fastgan.engine.native.records import Constants, Kind
from fastgan.host.native import _native
from fastgan.plan import Plan
from fastgan.plan.merge import merge
from tests import drawing
from tests.unit.engine.native_networks import OPSET, Network, Shape, check, native_of, threads

__all__ = ["threads"]

pytestmark = pytest.mark.cpu

#: Queries, keys, sizes of a key and of a value: tiles and vectors of every instruction set filled
#: and not, one of each, and lists of keys that are gone through in several parts.
SIZES = [
    (1, 1, 2, 1),
    (1, 33, 5, 3),
    (6, 7, 1, 2),
    (14, 16, 4, 16),
    (15, 17, 12, 33),
    (64, 64, 12, 12),
    (64, 144, 12, 40),
    (197, 3, 9, 8),
    (40, 511, 8, 7),
    (30, 512, 6, 64),
    (29, 513, 6, 65),
    (333, 1100, 16, 24),
]


#: A convolution of single pixels.
CONV: dict[str, Any] = {
    "group": 1,
    "strides": (1, 1),
    "pads": (0, 0, 0, 0),
    "dilations": (1, 1),
}


def product(
    net: Network,
    q: str,
    k: str,
    v: str,
    change: Callable[[str], str] = lambda scores: scores,
) -> str:
    """Attention of q [..., rows, inner], k [..., inner, keys], v [..., keys, columns]."""
    *batch, rows, _ = net.shapes[q]
    scores = change(net.add("MatMul", [q, k], (*batch, rows, net.shapes[k][-1])))
    weights = net.add("Softmax", [scores], net.shapes[scores], axis=-1)
    *batch, _, columns = net.shapes[v]
    return net.add("MatMul", [weights, v], (*batch, rows, columns))


def is_one(plan: Plan, count: int = 1) -> None:
    """Of a plan: its attention is that many operations, and no softmax is left."""
    ops = [step.op for step in native_of(plan).plan.steps]
    assert ops.count(attention.OPERATOR) == count, ops
    assert "Softmax" not in ops


def operations(plan: Plan) -> list[Kind]:
    """The kinds of the operations that a plan becomes."""
    plan = attention.join(merge(plan, range(9)), OPSET)
    low = Lowering(plan, OPSET)
    for step in plan.steps:
        low.lower(step, graph._TABLE[step.op])
    return [Kind(int.from_bytes(each.make()[:8], "little")) for each in low.planned]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("batch", [(1, 1), (2, 3), (40, 1)], ids=str)
def test_attention_of_every_size(size: tuple[int, int, int, int], batch: Shape) -> None:
    rows, keys, inner, columns = size
    draw = random.Random(f"{size} {batch} {drawing.new_seed()}")
    net = Network(q=(*batch, rows, inner), k=(*batch, inner, keys), v=(*batch, keys, columns))

    def change(x: str) -> str:
        shape = net.shapes[x]
        if draw.random() < 0.5:
            factor = net.weight(batch[1], 1, 1) if draw.random() < 0.5 else net.weight()
            x = net.add("Mul", [x, factor], shape)
        for _ in range(draw.randint(0, 2)):
            mask = [size if draw.random() < 0.7 else 1 for size in shape]
            if math.prod(mask) > 1:  # else it is a number, which changes no weight
                x = net.add("Add", [x, net.weight(*mask)], shape)
        return x

    plan = net.plan(product(net, "q", "k", "v", change))
    is_one(plan)
    check(plan)


def test_scores_are_those_of_float64() -> None:
    """As near to them as PyTorch's own float32 is, within twice, over a thousand keys."""
    net = Network(q=(2, 50, 64), k=(2, 64, 1100), v=(2, 1100, 32))
    made = native_of(net.plan(product(net, "q", "k", "v")))
    inputs = {name: torch.randn(net.shapes[name]) for name in net.inputs}
    (found,) = made(inputs).values()
    wide, own = (
        torch.softmax(q @ k, -1) @ v
        for q, k, v in ([x.to(t) for x in inputs.values()] for t in (torch.float64, torch.float32))
    )
    errors = [float((x - wide).abs().max()) for x in (found, own)]
    assert errors[0] <= 2 * errors[1], errors


@pytest.mark.parametrize("heads", [1, 4])
@pytest.mark.parametrize("length", [9, 64, 200])
def test_heads_of_one_linear_map_are_read_in_place(heads: int, length: int) -> None:
    """[N, length, 3 * heads * size], as tokens have it, and the result as the next map reads it."""
    size = 10
    net = Network(x=(2, length, 3 * heads * size))
    apart = (2, length, 3, heads, size)
    x = net.add("Reshape", ["x", net.host(list(apart))], apart)
    x = net.add("Transpose", [x], (3, 2, heads, length, size), perm=[2, 0, 3, 1, 4])
    rows = (2, heads, length, size)
    q, k, v = (net.add("Gather", [x, net.host(i)], rows, axis=0) for i in range(3))
    k = net.add("Transpose", [k], (2, heads, size, length), perm=[0, 1, 3, 2])
    q = net.add("Mul", [q, net.host(size**-0.5, torch.float32)], rows)
    y = product(net, q, k, v)
    y = net.add("Transpose", [y], (2, length, heads, size), perm=[0, 2, 1, 3])
    joined = (2, length, heads * size)
    y = net.add("Reshape", [y, net.host(list(joined))], joined)
    plan = net.plan(y)
    is_one(plan)
    check(plan)
    assert operations(plan) == [Kind.ATTENTION], "a copy of an operand or of the result"


@pytest.mark.parametrize("several", [False, True])
def test_channels_that_attend_to_each_other(several: bool) -> None:
    """Keys and queries that lie across: Restormer's, of images [N, height * width, channels]."""
    pixels, heads, size = 77, 3 if several else 1, 18
    net = Network(
        q=(2, pixels, heads, size), k=(2, pixels, heads, size), v=(2, pixels, heads, size)
    )
    across = (2, heads, size, pixels)
    q = net.add("Transpose", ["q"], across, perm=[0, 2, 3, 1])
    k = net.add("Transpose", ["k"], (2, heads, pixels, size), perm=[0, 2, 1, 3])
    v = net.add("Transpose", ["v"], across, perm=[0, 2, 3, 1])
    temperature = net.weight(heads, 1, 1)
    y = product(net, q, k, v, lambda x: net.add("Mul", [x, temperature], net.shapes[x]))
    y = net.add("Transpose", [y], (2, pixels, heads, size), perm=[0, 3, 1, 2])
    plan = net.plan(y)
    is_one(plan)
    check(plan)
    assert operations(plan) == [Kind.ATTENTION]


@pytest.mark.parametrize("shifted", [False, True])
def test_windows_with_a_position_bias_and_a_mask(shifted: bool) -> None:
    """Swin: the batch is reshaped for a mask that the windows of every image share."""
    images, windows, heads, length = 2, 5, 3, 16
    all_of = images * windows
    net = Network(
        q=(all_of, heads, length, 12), k=(all_of, heads, 12, length), v=(all_of, heads, length, 12)
    )
    scores = (all_of, heads, length, length)

    def change(x: str) -> str:
        x = net.add("Add", [x, net.weight(1, heads, length, length)], scores)
        if not shifted:
            return x
        apart = (images, windows, heads, length, length)
        x = net.add("Reshape", [x, net.host(list(apart))], apart)
        mask = net.weight(1, windows, 1, length, length)
        net.weights[mask] = torch.where(net.weights[mask] < 0, -100.0, 0.0)
        x = net.add("Add", [x, mask], apart)
        return net.add("Reshape", [x, net.host(list(scores))], scores)

    plan = net.plan(product(net, "q", "k", "v", change))
    is_one(plan)
    check(plan)


@pytest.mark.parametrize("pool", [1, 4])
def test_pixels_that_attend_from_the_left(pool: int) -> None:
    """SAGAN: values [N, channels, pixels] times the weights turned over, which nothing copies."""
    pixels, keys, size, channels = 144, 144 // pool, 3, 24
    net = Network(q=(2, size, pixels), k=(2, size, keys), v=(2, channels, keys))
    q = net.add("Transpose", ["q"], (2, pixels, size), perm=[0, 2, 1])
    scores = net.add("MatMul", [q, "k"], (2, pixels, keys))
    weights = net.add("Softmax", [scores], (2, pixels, keys), axis=-1)
    turned = net.add("Transpose", [weights], (2, keys, pixels), perm=[0, 2, 1])
    y = net.add("MatMul", ["v", turned], (2, channels, pixels))
    image = (2, channels, 12, 12)
    y = net.add("Reshape", [y, net.host(list(image))], image)
    y = net.add(
        "fastgan.Conv", [y, net.weight(4, channels, 1, 1, scale=0.1)], (2, 4, 12, 12), **CONV
    )
    plan = net.plan(y)
    is_one(plan)
    check(plan)
    kinds = [Kind.ATTENTION, Kind.DENSE]
    assert operations(plan) == kinds, "a copy of what lies as the convolution reads it"


@pytest.mark.parametrize("second", ["b h i j , b h j d -> b h i d", "bhij,bhjd->bhid"])
def test_einsum(second: str) -> None:
    net = Network(q=(2, 3, 20, 6), k=(2, 3, 30, 6), v=(2, 3, 30, 8))
    scores = net.add("Einsum", ["q", "k"], (2, 3, 20, 30), equation="bhid,bhjd->bhij")
    weights = net.add("Softmax", [scores], (2, 3, 20, 30), axis=-1)
    plan = net.plan(net.add("Einsum", [weights, "v"], (2, 3, 20, 8), equation=second))
    is_one(plan)
    check(plan)


def test_biases_that_depend_on_data() -> None:
    net = Network(
        q=(2, 3, 20, 6), k=(2, 3, 6, 30), v=(2, 3, 30, 8), across=(2, 3, 30, 20), one=(2, 1, 1, 30)
    )
    shape = (2, 3, 20, 30)

    def change(x: str) -> str:
        bias = net.add("Transpose", ["across"], shape, perm=[0, 1, 3, 2])  # its keys lie apart
        return net.add("Add", [net.add("Add", [x, "one"], shape), bias], shape)

    plan = net.plan(product(net, "q", "k", "v", change))
    is_one(plan)
    check(plan)


def test_a_bias_of_keys_alone() -> None:
    net = Network(q=(2, 20, 6), k=(2, 6, 30), v=(2, 30, 8))
    shape = (2, 20, 30)
    plan = net.plan(
        product(net, "q", "k", "v", lambda x: net.add("Add", [x, net.weight(30)], shape))
    )
    is_one(plan)
    check(plan)


def test_keys_that_all_heads_share() -> None:
    net = Network(q=(2, 3, 20, 6), k=(2, 1, 6, 30), v=(2, 1, 30, 8))
    scores = net.add("MatMul", ["q", "k"], (2, 3, 20, 30))
    weights = net.add("Softmax", [scores], (2, 3, 20, 30), axis=-1)
    plan = net.plan(net.add("MatMul", [weights, "v"], (2, 3, 20, 8)))
    is_one(plan)
    check(plan)


def test_parts_of_a_concatenation() -> None:
    net = Network(q=(2, 20, 6), k=(2, 6, 30), v=(2, 30, 8), other=(2, 20, 5))
    y = product(net, "q", "k", "v")
    plan = net.plan(net.add("Concat", ["other", y], (2, 20, 13), axis=-1))
    is_one(plan)
    check(plan)


def run_with(change: Callable[[dict[str, Tensor]], None], keys: int = 600) -> tuple[Tensor, Tensor]:
    """(native, PyTorch) of inputs that were changed, with a mask that depends on data."""
    net = Network(q=(1, 40, 8), k=(1, 8, keys), v=(1, keys, 20), mask=(1, 40, keys))
    y = product(net, "q", "k", "v", lambda x: net.add("Add", [x, "mask"], (1, 40, keys)))
    inputs = {name: torch.randn(shape) for name, shape in net.shapes.items() if name in net.inputs}
    inputs["mask"].zero_()
    change(inputs)
    q, k, v, mask = inputs.values()
    return native_of(net.plan(y))(inputs)[y], torch.softmax(q @ k + mask, -1) @ v


def test_masked_keys_weigh_nothing() -> None:
    """Whole parts of the keys among them, first and last ones."""

    def change(x: dict[str, Tensor]) -> None:
        x["mask"][:, :10, :550] = -math.inf
        x["mask"][:, 10:20, 3:] = -math.inf
        x["mask"][:, 20:30, ::2] = -1e9
        x["v"][:, :3] = 1e6  # which a weight that is merely small would show

    found, expected = run_with(change)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    alone, expected = run_with(lambda x: x["mask"][:, :, :599].fill_(-math.inf))
    torch.testing.assert_close(alone, expected, rtol=0, atol=0)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["q", "k", "v", "mask"])
@pytest.mark.parametrize("keys", [30, 600])
def test_what_is_no_number_goes_where_it_goes_in_pytorch(
    value: float, name: str, keys: int
) -> None:
    def change(x: dict[str, Tensor]) -> None:
        x[name][0, 5, 7] = value
        x["mask"][:, 11] = -math.inf  # a query that is left no key
        x["mask"][:, 13, :20] = -math.inf

    found, expected = run_with(change, keys)
    assert torch.equal(found.isnan(), expected.isnan())
    assert found[0, 11].isnan().all()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5, equal_nan=True)


def test_bits_do_not_depend_on_threads_or_on_the_batch() -> None:
    for rows, keys in ((300, 700), (64, 64), (5, 9)):
        net = Network(q=(3, rows, 16), k=(3, 16, keys), v=(3, keys, 24))
        inputs = {name: torch.randn(net.shapes[name]) for name in net.inputs}
        y = product(net, "q", "k", "v")
        made = native_of(net.plan(y))
        found = []
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            found.append(made(inputs)[y].clone())
        assert torch.equal(found[0], found[1])
        assert torch.equal(found[0], found[2])
        net = Network(q=(1, rows, 16), k=(1, 16, keys), v=(1, keys, 24))
        alone = native_of(net.plan(product(net, "q", "k", "v")))
        for i in range(3):
            one = alone({name: x[i : i + 1] for name, x in inputs.items()})[y]
            assert torch.equal(one[0], found[0][i])


def test_scores_of_all_queries_are_never_held() -> None:
    tokens = 2048
    net = Network(q=(1, tokens, 32), k=(1, 32, tokens), v=(1, tokens, 32))
    plan = net.plan(product(net, "q", "k", "v"))
    constants = Constants()
    made = graph.lowered(plan, OPSET, constants)
    sizes = [meta.numel() for _, meta in (*made.inputs, *made.outputs)]
    runtime = _native.runtime
    whole = runtime.Graph(
        records=made.records,
        arena=made.arena,
        tensors=sizes,
        constants=[],
        weights=runtime.Weights(1),
    )
    assert whole.floats(2) < tokens * tokens / 8


def left_as_they_are() -> dict[str, Plan]:
    """What looks like attention and is none, or none that one operation computes."""
    made = {}
    shape, values = (2, 20, 30), (2, 20, 8)

    def begin() -> Network:
        return Network(q=(2, 20, 6), k=(2, 6, 30), v=(2, 30, 8))

    net = begin()
    scores = net.add("MatMul", ["q", "k"], shape)
    weights = net.add("Softmax", [scores], shape, axis=-1)
    made["weights that are an output"] = net.plan(
        net.add("MatMul", [weights, "v"], values), weights
    )
    net = begin()
    scores = net.add("MatMul", ["q", "k"], shape)
    weights = net.add("Softmax", [scores], shape, axis=-1)
    y = net.add("MatMul", [weights, "v"], values)
    made["scores that others read"] = net.plan(y, net.add("Relu", [scores], shape))
    net = begin()
    scores = net.add("MatMul", ["q", "k"], shape)
    weights = net.add("Softmax", [scores], shape, axis=1)
    made["a softmax over the queries"] = net.plan(net.add("MatMul", [weights, "v"], values))
    net = begin()
    y = product(
        net,
        "q",
        "k",
        "v",
        lambda x: net.add("Mul", [net.add("Add", [x, net.weight(30)], shape), net.weight()], shape),
    )
    made["a scale behind a bias"] = net.plan(y)
    net = begin()
    y = product(net, "q", "k", "v", lambda x: net.add("Mul", [x, net.weight(20, 1)], shape))
    made["a scale for each query"] = net.plan(y)
    net = begin()
    y = product(net, "q", "k", "v", lambda x: net.add("Relu", [x], shape))
    made["a curve of scores"] = net.plan(y)
    net = begin()
    y = product(net, "q", "k", "v", lambda x: net.add("Sub", [net.weight(30), x], shape))
    made["scores taken away from a bias"] = net.plan(y)
    net = Network(q=(2, 20, 6), k=(2, 6, 20), v=(2, 20, 8))
    scores = net.add("MatMul", ["q", "k"], (2, 20, 20))
    turned = net.add("Transpose", [scores], (2, 20, 20), perm=[0, 2, 1])
    weights = net.add("Softmax", [turned], (2, 20, 20), axis=-1)
    made["scores turned over"] = net.plan(net.add("MatMul", [weights, "v"], values))
    net = Network(q=(2, 20, 6), k=(2, 6, 20), v=(2, 20, 20))
    scores = net.add("MatMul", ["q", "k"], (2, 20, 20))
    weights = net.add("Softmax", [scores], (2, 20, 20), axis=-1)
    made["weights from the right as they are"] = net.plan(
        net.add("MatMul", ["v", weights], (2, 20, 20))
    )
    net = Network(q=(20, 6), k=(6, 30))
    scores = net.add("MatMul", ["q", "k"], (20, 30))
    weights = net.add("Softmax", [scores], (20, 30), axis=-1)
    y = net.add("MatMul", [weights, net.weight(30, 8)], (20, 8))
    made["values that are a weight"] = net.plan(y)
    return made


@pytest.mark.parametrize(("name", "plan"), left_as_they_are().items(), ids=left_as_they_are())
def test_what_is_left_as_it_is(name: str, plan: Plan) -> None:
    ops = [step.op for step in native_of(plan).plan.steps]
    assert attention.OPERATOR not in ops
    check(plan)


def test_scores_divided_by_nothing() -> None:
    net = Network(q=(2, 20, 6), k=(2, 6, 30), v=(2, 30, 8))
    zero, shape = net.host(0.0, torch.float32), (2, 20, 30)
    y = product(net, "q", "k", "v", lambda x: net.add("Div", [x, zero], shape))
    found = native_of(net.plan(y))({name: torch.randn(net.shapes[name]) for name in net.inputs})
    assert found[y].isnan().all()
