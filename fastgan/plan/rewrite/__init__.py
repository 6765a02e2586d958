"""The ordered rewrites: each a named set of rules, applied once, in this order."""

from __future__ import annotations

import functools
import threading

import onnx_ir as ir
from onnxscript.rewriter import RewriteRule

from fastgan.host import forks
from fastgan.plan.rewrite.driver import Rules
from fastgan.plan.rewrite.rules import (
    activations,
    addressing,
    affine,
    batch_norm,
    epilogue,
    filters,
    modulation,
    normal_form,
    normalise,
    per_sample,
    residual,
    scale,
    transposes,
    unflatten,
    views,
)
from fastgan.plan.rewrite.rules import neutral as nothing
from fastgan.plan.rewrite.watch import Watch

PASSES: tuple[tuple[str, tuple[RewriteRule, ...]], ...] = (
    ("transposes downwards", transposes.SINK_RULES),
    ("weights of samples into one", per_sample.RULES),
    ("what changes nothing", nothing.RULES),
    ("norms in one form", normalise.RULES),
    ("groups, scale and shift into the norm", affine.RULES),
    ("activations by their names", activations.NAME_RULES),
    ("transposes below activations", transposes.SINK_RULES),
    ("views and zeros between pixels", (*filters.STUFF_RULES, *views.RULES)),
    ("reciprocals in one form", modulation.RECIPROCAL_RULES),
    ("normal form of products", normal_form.RULES),
    ("constants into weight and bias", (*epilogue.BIAS_RULES, *scale.RULES)),
    ("rows to images", unflatten.RULES),
    ("batch norm into the weight", (*batch_norm.RULES, *scale.RULES)),
    ("pads and upsampling into the convolution", addressing.READ_RULES),
    ("scales of samples before filters", modulation.COMMUTE_RULES),
    ("scales of samples into the convolution", modulation.SCALE_RULES),
    ("filters into the transposed convolution", filters.RULES),
    ("noise and bias behind scales", (*modulation.NOISE_RULES, *epilogue.BIAS_RULES)),
    ("sum into the epilogue", residual.RULES),
    ("activation before the concatenation", activations.CONCAT_RULES),
    ("relu of a skip connection", activations.SKIP_RULES),
    ("sums of squares within range", modulation.RANGE_RULES),
    ("activation into the epilogue", epilogue.ACTIVATION_RULES),
    ("gain of an activation into the weight", modulation.GAIN_RULES),
    ("shuffle into the convolution", addressing.WRITE_RULES),
    ("activation behind a shuffle", epilogue.ACTIVATION_RULES),
    ("activated rows to images", unflatten.RULES),
    ("transpose of images into the rows", transposes.COLUMN_RULES),
)


def rewrite(model: ir.Model, watch: Watch | None = None) -> ir.Model:
    """Apply every pass to a specialised model, in place; returns it.

    watch: is told what the passes do.
    """
    with _one_at_a_time:
        for name, rules in PASSES:
            if watch is not None:
                watch.begin(name)
            if _prepared(rules).apply(model, watch):
                _drop_unused(model.graph)
            _drop_identities(model.graph)
    return model


_prepared = functools.cache(Rules)

#: onnxscript's rules keep what they have matched so far in themselves.
_one_at_a_time = forks.renewed(threading.Lock())


def _drop_unused(graph: ir.Graph) -> None:
    """Remove what no output depends on any more."""
    for node in reversed(graph):
        if not any(value.is_graph_output() or value.uses() for value in node.outputs):
            graph.remove(node, safe=True)


def _drop_identities(graph: ir.Graph) -> None:
    """Let every reader of an Identity read its input; one that names an output hands on the name,
    and stays where what it names is an input, a constant or another output.
    """
    for node in graph:
        source = node.inputs[0] if node.op_type == "Identity" and not node.domain else None
        if source is None:
            continue
        named = node.outputs[0]
        if named.is_graph_output():
            if source.producer() is None or source.is_graph_output():
                continue
            for index, value in enumerate(graph.outputs):  # it may be named twice
                if value is named:
                    graph.outputs[index] = source
            name, named.name = named.name, None
            source.name = name
        ir.convenience.replace_all_uses_with(named, source)
        graph.remove(node, safe=True)
