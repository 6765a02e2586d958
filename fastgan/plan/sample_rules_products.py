"""Where products, norms and recurrences leave the samples; see `sample_rules`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx_ir as ir

from fastgan.plan.sample_rules import (
    ACROSS_AXES,
    Rule,
    alone,
    first_alone,
    given,
    integers,
    shape_of,
    spread,
)
from fastgan.plan.samples import ACROSS, Flow, Lay, Said, sizes

# Products -----------------------------------------------------------------------------------------


def _matmul(flow: Flow, node: ir.Node) -> Said:
    """By the axes of the batch, by the rows of the first matrix or the columns of the second."""
    (left, right), shape = (flow.lay(node, 0), flow.lay(node, 1)), sizes(node.outputs[0])
    ranks = len(shape_of(node, 0)), len(shape_of(node, 1))
    if any(lay is not None and lay.axis < 0 for lay in (left, right)):
        return ACROSS_AXES
    summed = (ranks[0] - 1, max(0, ranks[1] - 2))
    if any(
        lay is not None and lay.axis == axis
        for lay, axis in zip((left, right), summed, strict=True)
    ):
        return "a sum over the samples"
    rows = left is not None and left.axis == ranks[0] - 2
    columns = right is not None and right.axis == ranks[1] - 1
    if rows or columns:
        if left is not None and right is not None:
            return "samples that lie in different axes"
        if left is not None:
            return Lay(len(shape) - (1 if ranks[1] == 1 else 2), left.inner, broken=left.broken)
        assert right is not None
        return Lay(len(shape) - 1, right.inner, broken=right.broken)
    # Both are stacks of matrices, of which these are the axes that broadcast.
    stack = (*shape[:-2], 1, 1) if min(ranks) > 1 else (*shape[:-1], 1, 1)
    return spread(flow, node, (0, 1), stack) if min(ranks) > 1 else _stack_alone(flow, node)


def _stack_alone(flow: Flow, node: ir.Node) -> Said:
    """A stack of matrices by one vector."""
    left, right = flow.lay(node, 0), flow.lay(node, 1)
    lay = left or right
    if lay is None or (left is not None and right is not None):
        return "samples that lie in different axes"
    return Lay(lay.axis, lay.inner)


def _gemm(flow: Flow, node: ir.Node) -> Said:
    left, right, shape = flow.lay(node, 0), flow.lay(node, 1), sizes(node.outputs[0])
    if any(lay is not None and lay.axis < 0 for lay in (left, right, flow.lay(node, 2))):
        return ACROSS_AXES
    made: Lay | None = None
    if left is not None:
        if left.axis != given(node, "transA", 0) or right is not None:
            return "a sum over the samples"
        made = Lay(0, left.inner)
    elif right is not None:
        if right.axis == given(node, "transB", 0):
            return "a sum over the samples"
        made = Lay(1, right.inner)
    if flow.lay(node, 2) is not None:
        third = spread(flow, node, (2,), shape)
        if isinstance(third, str) or (made is not None and third.place != made.place):
            return "samples that lie in different axes"
        if made is None:  # the product is shared, and not the same for all
            return Lay(third.axis, third.inner, alike=False)
    elif made is not None and len(node.inputs) > 2 and node.inputs[2] is not None:
        axis = made.axis - len(shape) + len(shape_of(node, 2))
        flow.fit(node, 2, axis, made.inner, whole=False)
    return made if made is not None else "parameters of samples"


def _einsum(flow: Flow, node: ir.Node) -> Said:
    """One label has the samples wherever they are, and the result has it too."""
    equation = given(node, "equation", b"")
    text = (equation.decode() if isinstance(equation, bytes) else equation).replace(" ", "")
    if "." in text or "->" not in text:
        return "axes without labels"
    terms, result = text.split("->")[0].split(","), text.split("->")[1]
    lays = {i: lay for i in range(len(terms)) if (lay := flow.lay(node, i)) is not None}
    if any(lay.axis < 0 for lay in lays.values()):
        return ACROSS_AXES
    labels = {(terms[i][lay.axis], lay.inner) for i, lay in lays.items()}
    if len(labels) > 1:
        return "samples that lie in different axes"
    label, inner = labels.pop()
    if result.count(label) != 1 or any(term.count(label) > 1 for term in terms):
        return "a sum over the samples"
    for i, term in enumerate(terms):
        if i not in lays and label in term:
            flow.fit(node, i, term.index(label), inner, whole=True)
    return Lay(result.index(label), inner)


def _conv(flow: Flow, node: ir.Node) -> Said:
    """Images of samples by one weight; or each sample's channels, a group, by its own weight."""
    x, weight, bias = (flow.lay(node, i) for i in range(3))
    groups, transposed = given(node, "group", 1), node.op_type == "ConvTranspose"
    flow.note(groups)
    if weight is None and bias is None and x is not None and x.axis == 0:
        return x
    if any(lay is not None and lay.axis < 0 for lay in (x, weight, bias)):
        return ACROSS_AXES
    made = sizes(node.outputs[0])[1]
    # A network that begins with a constant has the same one for each sample (StyleGAN2).
    shared = x is None and groups > 1 and weight is not None
    if shared or (x is not None and x.axis == 1):
        channels = shape_of(node)[1]
        own = x is None or channels == x.inner * flow.n
        if not own or groups % flow.n or made % flow.n:
            return "channels of samples that are summed"
        flow.note(groups // flow.n)
        flow.fixed[node] = "samples as groups"
        whole = shape_of(node, 1)[0] // flow.n
        if x is None:
            flow.fit(node, 0, 1, channels // flow.n, whole=True)
        if weight is None:
            flow.fit(node, 1, 0, whole, whole=True)
        elif weight.place != (0, whole):
            return "weights of other samples"
        inner = made // flow.n
    elif x is not None:
        return "weights of samples" if x.axis == 0 else ACROSS
    elif weight is None or groups != 1 or weight.axis != int(transposed):
        return "weights of samples"
    else:
        inner = weight.inner
    if bias is not None and bias.place != (0, inner):
        return "samples that lie in different axes"
    if bias is None:
        flow.fit(node, 2, 0, inner, whole=True)
    return Lay(1, inner)


@alone
def _matrices(flow: Flow, node: ir.Node, lay: Lay) -> Said:
    """Ops on the last two axes."""
    return lay if lay.axis < len(shape_of(node)) - 2 else ACROSS


@alone
def _dft(flow: Flow, node: ir.Node, lay: Lay) -> Said:
    rank = len(shape_of(node))
    stated = integers(node, 2) or [given(node, "axis", -2 if len(node.inputs) > 2 else 1)]
    # Whichever default the opset has, neither may be theirs where nothing is stated.
    axes = {stated[0] % rank, rank - 1}
    if "axis" not in node.attributes and integers(node, 2) is None:
        axes |= {1 % rank, rank - 2}
    return ACROSS if lay.axis in axes else lay


# Images -------------------------------------------------------------------------------------------


@alone
def _images(flow: Flow, node: ir.Node, lay: Lay) -> Said:
    """Ops that need whole images, and all their channels."""
    return lay if lay.axis == 0 else ACROSS


def _planes(flow: Flow, node: ir.Node) -> Said:
    """Pools: of each plane by itself."""
    if len(node.outputs) > 1:
        return "places counted over all samples"
    lay = first_alone(flow, node)
    return lay if isinstance(lay, str) or lay.axis in (0, 1) else ACROSS


def _rows(flow: Flow, node: ir.Node) -> Said:
    """Inputs whose first axes go together."""
    lays = [lay for i in range(len(node.inputs)) if (lay := flow.lay(node, i)) is not None]
    if any(lay.place != lays[0].place or lay.axis != 0 for lay in lays):
        return "samples that lie in different axes"
    for i in range(len(node.inputs)):
        if flow.lay(node, i) is None:
            flow.fit(node, i, 0, lays[0].inner, whole=True)
    return lays[0]


def _affine_grid(flow: Flow, node: ir.Node) -> Said:
    lay = flow.lay(node, 0)
    return lay if lay is not None and lay.place == (0, 1) else "samples in another axis"


# Norms --------------------------------------------------------------------------------------------


def _parameters(flow: Flow, node: ir.Node, lay: Lay, positions: Sequence[int]) -> Lay | str:
    """A norm's result, whose parameters are one for each channel."""
    for i in positions:
        other, own = flow.lay(node, i), lay.axis - 1
        if other is not None and (lay.axis == 0 or other.place != (own, lay.inner)):
            return "parameters of samples"
        if other is None and lay.axis <= len(shape_of(node, i)):
            flow.fit(node, i, own, lay.inner, whole=True)
    return lay


def _batch_norm(flow: Flow, node: ir.Node) -> Said:
    lay = flow.lay(node, 0)
    if lay is None or lay.axis < 0:
        return "parameters of samples"
    made = _parameters(flow, node, lay, range(1, 5))
    if not given(node, "training_mode", 0):
        return made
    if lay.axis != 1 or isinstance(made, str):
        return "statistics of the batch"
    return [made, *[Lay(0, lay.inner)] * 2]  # samples side by side as channels


def _instance_norm(flow: Flow, node: ir.Node) -> Said:
    lay = flow.lay(node, 0)
    if lay is None or lay.axis not in (0, 1):
        return ACROSS
    return _parameters(flow, node, lay, range(1, 3))


def _layer_norm(flow: Flow, node: ir.Node) -> Said:
    """Over all axes from one on; scale and bias broadcast."""
    lay, shape = flow.lay(node, 0), shape_of(node)
    if lay is None or lay.axis < 0:
        return "parameters of samples"
    if lay.axis >= given(node, "axis", -1) % len(shape):
        return ACROSS
    return spread(flow, node, range(min(3, len(node.inputs))), shape)


@alone
def _mean_variance(flow: Flow, node: ir.Node, lay: Lay) -> Said:
    axes = {axis % len(shape_of(node)) for axis in given(node, "axes", (0, 2, 3))}
    return "statistics of the batch" if lay.axis in axes else lay


@alone
def _local_response(flow: Flow, node: ir.Node, lay: Lay) -> Said:
    return lay if lay.axis != 1 else ACROSS


# Sequences ----------------------------------------------------------------------------------------


def _recurrent(flow: Flow, node: ir.Node) -> Said:
    """X [length, batch, width], states [directions, batch, width]; by `layout`, batch first."""
    late = 0 if given(node, "layout", 0) else 1
    axes = {0: late, 4: 0, 5: late, 6: late}
    lays = {i: lay for i in range(len(node.inputs)) if (lay := flow.lay(node, i)) is not None}
    if any(lay.axis != axes.get(i, -1) for i, lay in lays.items()):
        return "samples that lie in different axes"
    inner = {lay.inner for lay in lays.values()}
    if len(inner) > 1:
        return "samples that lie in different axes"
    width = inner.pop()
    for i, axis in axes.items():
        if i not in lays:
            flow.fit(node, i, axis, width, whole=True)
    return [Lay(0 if not late else 2, width), Lay(late, width), Lay(late, width)]


def _reverse(flow: Flow, node: ir.Node) -> Said:
    lay, lengths = flow.lay(node, 0), flow.lay(node, 1)
    if lay is None or lay.axis != given(node, "batch_axis", 1):
        return "samples in another axis"
    if lengths is None:
        flow.fit(node, 1, 0, lay.inner, whole=True)
        return lay
    return lay if lengths.place == (0, lay.inner) else "samples that lie in different axes"


def _attention(flow: Flow, node: ir.Node) -> Said:
    """All but the mask [.., queries, keys] have the samples first."""
    lays = {i: lay for i in range(len(node.inputs)) if (lay := flow.lay(node, i)) is not None}
    if any(lay.place != (0, 1) for lay in lays.values()):
        return "samples in another axis"
    for i in range(len(node.inputs)):
        masked, full = i == 3, len(shape_of(node, i)) == 4
        if masked and i in lays and not full:
            return "samples that lie in different axes"
        if i not in lays and (full or not masked):
            flow.fit(node, i, 0, 1, whole=not masked)
    return Lay(0)


# Fused ops ----------------------------------------------------------------------------------------


def _fused_product(flow: Flow, node: ir.Node) -> Said:
    """x, weight and bias; behind them a residual and scales, each of which broadcasts."""
    x = flow.lay(node, 0)
    if x is None or x.axis != 0 or any(flow.lay(node, i) is not None for i in (1, 2)):
        return "weights of samples"
    rank = len(sizes(node.outputs[0]))
    return _beside(flow, node, x, dict.fromkeys(range(3, len(node.inputs)), rank))


def _fused_norm(flow: Flow, node: ir.Node) -> Said:
    """gamma and beta are [C], or [N, C] for each sample; a residual broadcasts."""
    x, rank, over = flow.lay(node, 0), len(sizes(node.outputs[0])), given(node, "over", "")
    text = over.decode() if isinstance(over, bytes) else over
    if x is None or x.axis != 0 or rank < 2:
        return "parameters of samples" if text != "last" or x is None or x.axis < 0 else ACROSS
    return _beside(flow, node, x, {i: 2 if i < 3 else rank for i in range(1, len(node.inputs))})


def _beside(flow: Flow, node: ir.Node, x: Lay, axes: Mapping[int, int]) -> Said:
    """What x becomes, where the inputs that broadcast to it, by their axes, lie as it does."""
    for i, rank in axes.items():
        lay, own = flow.lay(node, i), len(shape_of(node, i))
        if lay is None:
            flow.fit(node, i, own - rank, x.inner, whole=False)
        elif own != rank or lay.place != x.place:
            return "samples that lie in different axes"
    return Lay(0, x.inner, broken=x.broken)


_ONNX: tuple[tuple[Rule, tuple[str, ...]], ...] = (
    (_matmul, ("MatMul",)),
    (_gemm, ("Gemm",)),
    (_einsum, ("Einsum",)),
    (_conv, ("Conv", "ConvTranspose")),
    (_matrices, ("Det", "Trilu")),
    (_dft, ("DFT",)),
    (_images, ("Col2Im", "DepthToSpace", "GroupNormalization", "SpaceToDepth")),
    (
        _planes,
        (
            *("AveragePool", "GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool"),
            *("LpPool", "MaxPool"),
        ),
    ),
    (_rows, ("GridSample",)),
    (_affine_grid, ("AffineGrid",)),
    (_batch_norm, ("BatchNormalization",)),
    (_instance_norm, ("InstanceNormalization",)),
    (_layer_norm, ("LayerNormalization", "RMSNormalization")),
    (_mean_variance, ("MeanVarianceNormalization",)),
    (_local_response, ("LRN",)),
    (_recurrent, ("GRU", "LSTM", "RNN")),
    (_reverse, ("ReverseSequence",)),
    (_attention, ("Attention",)),
)
RULES: dict[tuple[str, str], Rule] = {
    **{("", name): rule for rule, names in _ONNX for name in names},
    **{("fastgan", name): _fused_product for name in ("Linear", "Conv", "ConvTranspose")},
    ("fastgan", "Normalise"): _fused_norm,
}
