"""Which values a node's attributes may have: one row per attribute, by the ONNX operators' own text
(https://onnx.ai/onnx/operators/) where that gives a range, by what any machine could run where not.

A zero stride or block size is a division by zero in somebody's kernel, an absurd one an allocation
that never comes back; both are refused here, whatever runs the model later.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import onnx

# What is needed, where the value is not that; None where it is.
Rule = Callable[[Any], "str | None"]

EXTENT = 1 << 20  # the longest kernel, stride, dilation or pad; real ones stay below 10,000
COUNT = (1 << 31) - 1  # what runtimes keep in 32 bits: sizes, groups, units
RANK = 64  # NumPy's and PyTorch's limit
SPATIAL = 8  # the most spatial axes of a convolution; three are in use


def whole(low: int, high: int) -> Rule:
    """One integer from `low` to `high`."""

    def rule(value: int) -> str | None:
        return None if low <= value <= high else f"an integer from {low} to {high}"

    return rule


def each(low: int, high: int, count: int) -> Rule:
    """At most `count` integers, each from `low` to `high`."""

    def rule(values: tuple[int, ...]) -> str | None:
        if len(values) <= count and all(low <= value <= high for value in values):
            return None
        return f"at most {count} integers from {low} to {high}"

    return rule


def distinct(low: int, high: int) -> Rule:
    """Different axes, each from `low` to `high`."""

    def rule(values: tuple[int, ...] | int) -> str | None:
        axes = (values,) if isinstance(values, int) else values  # LpNormalization and others: one
        if len(set(axes)) == len(axes) and all(low <= axis <= high for axis in axes):
            return None
        return f"different axes from {low} to {high}"

    return rule


def permutation(values: tuple[int, ...]) -> str | None:
    """Each axis once."""
    if len(values) <= RANK and sorted(values) == list(range(len(values))):
        return None
    return f"each axis from 0 to {max(len(values) - 1, 0)} once"


def extents(values: tuple[int, ...]) -> str | None:
    """A shape that can exist: no negative size, less than 2^40 elements."""
    if len(values) <= RANK and min(values, default=0) >= 0 and math.prod(values) < 1 << 40:
        return None
    return f"at most {RANK} sizes, none negative, less than 2^40 elements together"


def finite(low: float) -> Rule:
    """A finite number, `low` or more."""

    def rule(value: float) -> str | None:
        return None if low <= value < math.inf else f"a finite number, {low:g} or more"

    return rule


def number(value: float) -> str | None:
    """A finite number."""
    return None if math.isfinite(value) else "a finite number"


def one_of(*words: str) -> Rule:
    """One of a few words."""
    allowed = {word.encode() for word in words}

    def rule(value: bytes) -> str | None:
        return None if value in allowed else f"one of {', '.join(words)}"

    return rule


def dtype(value: int) -> str | None:
    """A tensor data type of ONNX."""
    known = value in onnx.TensorProto.DataType.values() and value != 0
    return None if known else "a tensor data type of ONNX"


flag = whole(0, 1)
axis = whole(-RANK, RANK - 1)
_spatial = each(1, EXTENT, SPATIAL)

# An attribute means the same in every operator that has it, other domains' included ...
ATTRIBUTES: Mapping[str, Rule] = {
    "kernel_shape": _spatial,
    "strides": _spatial,
    "dilations": _spatial,
    "pads": each(-EXTENT, EXTENT, 2 * RANK),
    "output_padding": each(0, EXTENT, SPATIAL),
    "output_shape": each(1, COUNT, SPATIAL + 2),
    "auto_pad": one_of("NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"),
    "group": whole(1, COUNT),
    "num_groups": whole(1, COUNT),
    "offset_group": whole(1, COUNT),
    "blocksize": whole(1, EXTENT),
    "block_size": whole(0, EXTENT),  # 0 is for none: ONNX Runtime writes out what is default
    "axis": axis,
    "batch_axis": axis,
    "time_axis": axis,
    "axes": distinct(-RANK, RANK - 1),
    "perm": permutation,
    "batch_dims": whole(0, RANK),
    "split": each(0, COUNT, COUNT),
    "num_outputs": whole(1, EXTENT),
    "hidden_size": whole(1, COUNT),
    "num_heads": whole(1, COUNT),
    "q_num_heads": whole(1, COUNT),
    "kv_num_heads": whole(1, COUNT),
    "pooled_shape": _spatial,
    "output_height": whole(1, EXTENT),
    "output_width": whole(1, EXTENT),
    "sampling_ratio": whole(0, EXTENT),
    "sample_size": whole(1, COUNT),
    "size": whole(1, EXTENT),
    "p": whole(1, EXTENT),
    "allowzero": flag,
    "align_corners": flag,
    "antialias": flag,
    "ceil_mode": flag,
    "count_include_pad": flag,
    "exclude_outside": flag,
    "is_test": flag,
    "keepdims": flag,
    "noop_with_empty_axes": flag,
    "storage_order": flag,
    "training_mode": flag,
    "transA": flag,
    "transB": flag,
    "epsilon": finite(0.0),
    "dtype": dtype,
    "output_dtype": whole(0, max(onnx.TensorProto.DataType.values())),
}

# ... but for these.
OPERATOR_ATTRIBUTES: Mapping[tuple[str, str], Rule] = {
    ("Cast", "to"): dtype,
    ("DepthToSpace", "mode"): one_of("DCR", "CRD"),
    ("Pad", "mode"): one_of("constant", "reflect", "edge", "wrap"),
    ("Pad", "paddings"): each(-EXTENT, EXTENT, 2 * RANK),
    ("RandomNormal", "shape"): extents,
    ("RandomUniform", "shape"): extents,
    ("Reshape", "shape"): each(-1, COUNT, RANK),
    ("Resize", "mode"): one_of("nearest", "linear", "cubic"),
    ("Upsample", "mode"): one_of("nearest", "linear", "bilinear"),
    ("Upsample", "height_scale"): finite(1.0),
    ("Upsample", "width_scale"): finite(1.0),
    ("Scan", "num_scan_inputs"): whole(1, EXTENT),
    ("ConcatFromSequence", "new_axis"): flag,
    ("Gelu", "approximate"): one_of("none", "tanh"),
    ("ScatterElements", "reduction"): one_of("none", "add", "mul", "max", "min"),
    ("ScatterND", "reduction"): one_of("none", "add", "mul", "max", "min"),
    # An infinity or NaN in a curve makes NaN of zero, here or there by the runtime.
    **{
        (op, name): number
        for op, names in (
            *((op, ("alpha",)) for op in ("Celu", "Elu", "LeakyRelu", "Swish", "ThresholdedRelu")),
            *(("Selu", ("alpha", "gamma")), ("HardSigmoid", ("alpha", "beta"))),
            *(("Shrink", ("bias", "lambd")), ("LRN", ("alpha", "beta", "bias"))),
            ("Gemm", ("alpha", "beta")),
        )
        for name in names
    },
    # Pooling and convolution have no cropping, so no negative pads; Pad has.
    **{
        (op, "pads"): each(0, EXTENT, 2 * SPATIAL)
        for op in (
            *("Conv", "ConvInteger", "ConvTranspose", "QLinearConv", "DeformConv", "Col2Im"),
            *("AveragePool", "MaxPool", "LpPool", "MaxUnpool"),
        )
    },
}

# One entry of each belongs to one spatial axis, so a node's lists have the same length.
_PER_AXIS = (("kernel_shape", 1), ("strides", 1), ("dilations", 1), ("output_padding", 1))
_WINDOWED = frozenset(
    (
        *("Conv", "ConvTranspose", "ConvInteger", "QLinearConv", "DeformConv"),
        *("AveragePool", "MaxPool", "LpPool", "MaxUnpool"),
    )
)
_CONVOLUTIONS = frozenset(("Conv", "ConvTranspose"))


@dataclass(frozen=True, slots=True)
class Problem:
    """An attribute (or input, or output) that breaks a rule."""

    what: str
    found: str
    needed: str


def check(
    op: str, values: Mapping[str, Any], shapes: tuple[tuple[int, ...] | None, ...], outputs: int
) -> Problem | None:
    """The first attribute of an `op` node that breaks a rule.

    Args:
        op: the operator's name.
        values: the attributes' values by name; None for tensors, graphs and types.
        shapes: the inputs' shapes where they are weights, else None.
        outputs: how many outputs the node has.
    """
    for name, value in values.items():
        rule = OPERATOR_ATTRIBUTES.get((op, name)) or ATTRIBUTES.get(name)
        if rule is None or value is None:
            continue
        try:
            needed = rule(value)
        except TypeError:
            needed = "another type"
        if needed:
            return Problem(f"attribute '{name}'", _short(value), needed)
    if op in _WINDOWED:
        return _window(op, values, shapes)
    if op == "Split":
        return _split(values, outputs)
    if op == "OneHot":
        return _one_hot(shapes)
    return None


def _one_hot(shapes: tuple[tuple[int, ...] | None, ...]) -> Problem | None:
    """Whether the depth is one number and the values are two: ONNX Runtime reads past others."""
    for position, name, needed in ((1, "depth", ((), (1,))), (2, "values", ((2,),))):
        shape = shapes[position] if position < len(shapes) else None
        if shape is not None and shape not in needed:
            found = f"shape {list(shape)}"
            return Problem(f"input '{name}'", found, " or ".join(str(list(s)) for s in needed))
    return None


def _split(values: Mapping[str, Any], outputs: int) -> Problem | None:
    """Whether a Split has the outputs that its attributes promise."""
    promised = {"num_outputs": values.get("num_outputs"), "split": values.get("split")}
    if promised["split"] is not None:
        promised["split"] = len(promised["split"])
    for name, count in promised.items():
        if count is not None and count != outputs:
            needed = f"as many as it has outputs, {outputs}"
            return Problem(f"attribute '{name}'", _short(values[name]), needed)
    return None


def _window(
    op: str, values: Mapping[str, Any], shapes: tuple[tuple[int, ...] | None, ...]
) -> Problem | None:
    """Whether a convolution's or a pooling's lists, and its weight, agree with one another."""
    weight = shapes[1] if op in _CONVOLUTIONS and len(shapes) > 1 else None
    axes: int | None = None
    if weight is not None:
        axes = len(weight) - 2
        if axes < 1 or axes > SPATIAL:
            return Problem("weight", f"shape {list(weight)}", "rank 3 to 10")
        if not all(size >= 1 for size in weight):
            return Problem("weight", f"shape {list(weight)}", "no axis of size 0")
        if any(size > EXTENT for size in weight[2:]):
            return Problem("weight", f"shape {list(weight)}", f"kernels up to {EXTENT}")
        if (kernel := values.get("kernel_shape")) and tuple(kernel) != weight[2:]:
            needed = f"{list(weight[2:])}, the weight's"
            return Problem("attribute 'kernel_shape'", _short(kernel), needed)
        group = values.get("group", 1)
        if weight[0] % group:
            return Problem("attribute 'group'", str(group), f"a divisor of {weight[0]} channels")
    for name, entries in (*_PER_AXIS, ("pads", 2)):
        value = values.get(name)
        if not value:
            continue
        if axes is None:
            axes = len(value) // entries
        if len(value) != axes * entries:
            needed = f"{axes * entries} entries for {axes} spatial axes"
            return Problem(f"attribute '{name}'", _short(value), needed)
    return None


def _short(value: Any) -> str:
    text = f"'{value.decode('utf-8', 'replace')}'" if isinstance(value, bytes) else str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


@dataclass(frozen=True, slots=True)
class Schema:
    """What ONNX's own schema says of an operator at one opset."""

    inputs: tuple[int, int]
    outputs: tuple[int, int]
    required: frozenset[str]
    kinds: Mapping[str, int]
    present: tuple[bool, ...]

    def problem(self, node: onnx.NodeProto, kinds: Mapping[str, int]) -> Problem | None:
        """The first thing of `node` that the schema does not allow."""
        counts = (("inputs", self.inputs, node.input), ("outputs", self.outputs, node.output))
        for what, (low, high), names in counts:
            if not low <= len(names) <= high:
                needed = str(low) if low == high else f"{low} to {high}"
                return Problem(f"number of {what}", str(len(names)), needed)
        for index, (name, needed_here) in enumerate(zip(node.input, self.present, strict=False)):
            if needed_here and not name:
                return Problem(f"input {index}", "nothing", "a tensor")
        for name, kind in kinds.items():
            if self.kinds.get(name, kind) != kind:
                type_name = onnx.AttributeProto.AttributeType.Name
                return Problem(f"attribute '{name}'", type_name(kind), type_name(self.kinds[name]))
        if missing := self.required - kinds.keys():
            return Problem(f"attribute '{min(missing)}'", "nothing", "a value: it is required")
        return None


@functools.lru_cache(maxsize=4096)
def schema(op: str, version: int, domain: str) -> Schema | None:
    """The schema of an operator, or None where ONNX has none of that name."""
    try:
        found = onnx.defs.get_schema(op, version, domain)
    except onnx.defs.SchemaError:
        return None
    kinds = {
        name: int(entry.type.value)  # type: ignore[attr-defined]
        for name, entry in found.attributes.items()
    }
    required = frozenset(n for n, entry in found.attributes.items() if entry.required)
    single = onnx.defs.OpSchema.FormalParameterOption.Single
    return Schema(
        inputs=(found.min_input, found.max_input),
        outputs=(found.min_output, found.max_output),
        required=required,
        kinds=kinds,
        present=tuple(parameter.option == single for parameter in found.inputs),
    )
