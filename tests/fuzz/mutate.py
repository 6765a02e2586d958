"""Models to begin with, and what may happen to them on the way here.

A mutation takes a random source and a valid model and returns bytes. Both `hypothesis` and the long
campaign draw from here: the first through `random.Random(seed)`, so that it can shrink the seed.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError, EncodeError
from onnx import AttributeProto, ModelProto

Random = random.Random

INTS = (0, 1, -1, 2, 3, 4, 7, 8, -2, 16, 63, 64, 255, 1000, 65536, 1 << 20, 1 << 24)
EXTREME_INTS = (1 << 31, (1 << 31) - 1, -(1 << 31), 1 << 32, 1 << 40, (1 << 63) - 1, -(1 << 63))
FLOATS = (0.0, -1.0, 0.5, 1.0, 2.0, 1e-12, 1e9, 3e38, float("inf"), float("nan"), -float("inf"))
WORDS = (
    b"",
    b"x",
    b"linear",
    b"SAME_UPPER",
    b"VALID",
    b"reflect",
    b"a" * 500,
    b"\xff\xfe",
    b"ij->",
)


def an_int(rng: Random) -> int:
    return rng.choice(INTS if rng.random() < 0.7 else EXTREME_INTS)


@functools.cache
def corpus() -> tuple[bytes, ...]:
    """The models that the onnx package carries: single operators and small networks."""
    folder = Path(onnx.__file__).parent / "backend" / "test" / "data"
    paths = sorted(path for path in folder.glob("*/*/model.onnx") if "real" not in path.parts)
    return tuple(path.read_bytes() for path in paths)


def node_cases(folder: Path) -> tuple[bytes, ...]:
    """ONNX's node cases, every operator there is, kept in `folder` since making them takes long."""
    if not folder.exists():
        from onnx.backend.test.case.node import collect_testcases

        folder.mkdir(parents=True)
        for case in collect_testcases(None):
            (folder / f"{case.name}.onnx").write_bytes(case.model.SerializeToString())
    return tuple(path.read_bytes() for path in sorted(folder.glob("*.onnx")))


def shipped() -> tuple[bytes, ...]:
    """The models that ship with fastgan: generators, encoders, and networks from image to image."""
    from fastgan import models

    return tuple(models.path(name).read_bytes() for name in sorted(models.names()))


def graphs(model: ModelProto) -> Iterator[onnx.GraphProto]:
    todo = [model.graph]
    while todo:
        graph = todo.pop()
        yield graph
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    todo.append(attribute.g)


def nodes(model: ModelProto) -> list[onnx.NodeProto]:
    return [node for graph in graphs(model) for node in graph.node]


def tensors(model: ModelProto) -> list[onnx.TensorProto]:
    own = [t for graph in graphs(model) for t in graph.initializer]
    return own + [a.t for node in nodes(model) for a in node.attribute if a.HasField("t")]


def some(rng: Random, items: list) -> list:
    return [rng.choice(items)] if items else []


def change_attribute(rng: Random, model: ModelProto) -> None:
    for a in some(rng, [a for node in nodes(model) for a in node.attribute]):
        if rng.random() < 0.1:
            a.type = rng.choice(AttributeProto.AttributeType.values())
        if a.type == AttributeProto.INT:
            a.i = an_int(rng)
        elif a.type == AttributeProto.FLOAT:
            a.f = rng.choice(FLOATS)
        elif a.type == AttributeProto.STRING:
            a.s = rng.choice(WORDS)
        elif a.type == AttributeProto.INTS:
            change_list(rng, a.ints)
        elif a.type == AttributeProto.FLOATS and a.floats:
            a.floats[rng.randrange(len(a.floats))] = rng.choice(FLOATS)


def change_list(rng: Random, values: list) -> None:
    if values and rng.random() < 0.7:
        values[rng.randrange(len(values))] = an_int(rng)
    elif values and rng.random() < 0.5:
        del values[rng.randrange(len(values))]
    else:
        values.extend(an_int(rng) for _ in range(rng.choice((1, 2, 40))))


def add_attribute(rng: Random, model: ModelProto) -> None:
    """Give a node an attribute that its operator has, or that another one has."""
    for node in some(rng, nodes(model)):
        try:
            known = onnx.defs.get_schema(node.op_type, node.domain).attributes
        except onnx.defs.SchemaError:
            known = {}
        name = rng.choice([*known, "strides", "axis"])
        if rng.random() < 0.5:
            node.attribute.add(name=name, type=AttributeProto.INT, i=an_int(rng))
        else:
            ints = [an_int(rng) for _ in range(rng.randrange(5))]
            node.attribute.add(name=name, type=AttributeProto.INTS, ints=ints)


def drop_attribute(rng: Random, model: ModelProto) -> None:
    for node in some(rng, [node for node in nodes(model) if node.attribute]):
        del node.attribute[rng.randrange(len(node.attribute))]


def change_tensor(rng: Random, model: ModelProto) -> None:
    for t in some(rng, tensors(model)):
        what = rng.randrange(5)
        if what == 0:
            t.data_type = rng.randrange(-1, 30)
        elif what == 1:
            change_list(rng, t.dims)
        elif what == 2 and t.raw_data:
            t.raw_data = t.raw_data[: rng.randrange(len(t.raw_data))]
        elif what == 3:
            t.data_location = onnx.TensorProto.EXTERNAL
            t.external_data.add(key="location", value=rng.choice(("/etc/passwd", "../x", "", "w")))
        else:
            change_values(rng, t)


def change_values(rng: Random, t: onnx.TensorProto) -> None:
    if t.int64_data:
        t.int64_data[rng.randrange(len(t.int64_data))] = an_int(rng)
    elif t.raw_data and t.data_type == onnx.TensorProto.INT64:
        at = rng.randrange(len(t.raw_data) // 8) * 8
        new = (an_int(rng) & (1 << 64) - 1).to_bytes(8, "little")
        t.raw_data = t.raw_data[:at] + new + t.raw_data[at + 8 :]
    elif t.float_data:
        t.float_data[rng.randrange(len(t.float_data))] = rng.choice(FLOATS)


def fix_input(rng: Random, model: ModelProto) -> None:
    """Make an input a constant, so that a runtime computes with it while it loads."""
    for value in some(rng, list(model.graph.input)):
        kind = value.type.tensor_type
        shape = [d.dim_value for d in kind.shape.dim]
        count = 1
        for size in shape:
            count *= size
        t = model.graph.initializer.add(name=value.name, data_type=kind.elem_type, dims=shape)
        if not 0 <= count <= 4096:
            return
        if kind.elem_type == onnx.TensorProto.INT64:
            t.int64_data.extend(an_int(rng) for _ in range(count))
        elif kind.elem_type == onnx.TensorProto.FLOAT:
            t.float_data.extend(rng.choice(FLOATS[:7]) for _ in range(count))
        elif kind.elem_type in (onnx.TensorProto.INT32, onnx.TensorProto.BOOL):
            t.int32_data.extend(rng.randrange(2) for _ in range(count))
        if rng.random() < 0.8:
            model.graph.input.remove(value)


def fix_all_inputs(rng: Random, model: ModelProto) -> None:
    for _ in range(len(model.graph.input)):
        fix_input(rng, model)


def change_shape(rng: Random, model: ModelProto) -> None:
    values = [v for g in graphs(model) for part in (g.input, g.output, g.value_info) for v in part]
    for value in some(rng, values):
        kind = value.type.tensor_type
        what = rng.randrange(4)
        if what == 0:
            kind.elem_type = rng.randrange(0, 30)
        elif what == 1 and kind.shape.dim:
            kind.shape.dim[rng.randrange(len(kind.shape.dim))].dim_value = an_int(rng)
        elif what == 2:
            kind.shape.dim.add().dim_value = an_int(rng)
        elif what == 3:
            value.ClearField("type")


def change_edge(rng: Random, model: ModelProto) -> None:
    names = [name for node in nodes(model) for name in (*node.input, *node.output)]
    names += [value.name for value in model.graph.input] + ["", "nowhere"]
    for node in some(rng, nodes(model)):
        part = node.input if rng.random() < 0.7 else node.output
        what = rng.randrange(3)
        if what == 0 or not part:
            part.append(rng.choice(names))
        elif what == 1:
            part[rng.randrange(len(part))] = rng.choice(names)
        else:
            del part[rng.randrange(len(part))]


def change_node(rng: Random, model: ModelProto) -> None:
    graph = rng.choice(list(graphs(model)))
    if not graph.node:
        return
    index = rng.randrange(len(graph.node))
    what = rng.randrange(4)
    if what == 0:
        other = ModelProto.FromString(rng.choice(corpus()))
        if other.graph.node:
            graph.node[index].op_type = other.graph.node[0].op_type
    elif what == 1:
        del graph.node[index]
    elif what == 2:
        graph.node.append(graph.node[index])
    else:
        graph.node[index].domain = rng.choice(("", "ai.onnx", "ai.onnx.ml", "com.microsoft", "x"))


def nest(rng: Random, model: ModelProto) -> None:
    """Put the graph into a branch of an If, which goes into a branch of another, and so on."""
    first = onnx.GraphProto()
    first.CopyFrom(model.graph)
    del first.input[:]
    for depth in range(rng.choice((1, 2, 20))):
        inner = onnx.GraphProto()
        inner.CopyFrom(model.graph)
        del inner.input[:]
        del model.graph.node[:]
        name = f"condition_{depth}"
        model.graph.initializer.add(name=name, data_type=9, dims=[], int32_data=[1])
        outputs = [value.name for value in inner.output]
        node = model.graph.node.add(op_type="If", input=[name], output=outputs)
        for branch, graph in (("then_branch", inner), ("else_branch", first)):
            node.attribute.add(name=branch, type=AttributeProto.GRAPH, g=graph)


def change_header(rng: Random, model: ModelProto) -> None:
    if rng.random() < 0.3:
        model.ir_version = abs(an_int(rng)) & 0x7FFFFFFF
    for entry in some(rng, list(model.opset_import)):
        entry.version = rng.choice((0, 1, 6, 9, 11, 13, 18, 21, 28, 99, -1))


STRUCTURED: tuple[Callable[[Random, ModelProto], None], ...] = (
    *(change_attribute, change_attribute, add_attribute, drop_attribute),
    *(change_tensor, change_tensor, fix_input, fix_all_inputs, change_shape),
    *(change_edge, change_node, nest, change_header),
)


def mutate_bytes(rng: Random, data: bytes) -> bytes:
    """Flip, cut, insert or repeat bytes."""
    for _ in range(rng.choice((1, 1, 2, 8))):
        at, what = rng.randrange(len(data) + 1), rng.randrange(5)
        if what == 0:
            data = data[:at]
        elif what == 1:
            data = data[:at] + rng.randbytes(1) + data[at + 1 :]
        elif what == 2:
            data = data[:at] + rng.randbytes(rng.choice((1, 4))) + data[at:]
        elif what == 3:
            data = data[:at] + data[at + rng.randrange(1, 9) :]
        else:
            data = data[:at] + data[max(at - 40, 0) : at] + data[at:]
    return data


def mutant(rng: Random, models: Sequence[bytes]) -> bytes:
    """One of the models with one to four things changed."""
    data = rng.choice(models)
    proto = ModelProto.FromString(data)
    if rng.random() < 0.85:
        proto.ir_version = min(proto.ir_version, 10)
        for entry in proto.opset_import:
            if entry.domain == "" and rng.random() < 0.7:
                entry.version = min(entry.version, 21)  # What more runtimes take.
        for _ in range(rng.choice((1, 1, 2, 3, 4))):
            try:
                rng.choice(STRUCTURED)(rng, proto)
            except (ValueError, TypeError, DecodeError):  # What no message can hold; so be it.
                continue
        try:
            changed = proto.SerializeToString()
        except EncodeError:  # Nested deeper than protobuf writes.
            return mutate_bytes(rng, data)
        if rng.random() < 0.9:
            return changed
        data = changed
    return mutate_bytes(rng, data)
