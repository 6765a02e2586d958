"""The ordered rewrites: each a named set of rules, applied once, in this order."""

from __future__ import annotations

import onnx_ir as ir
from onnxscript.rewriter import RewriteRule, RewriteRuleSet

from fastgan.rewrite.fusion import batch_norm, epilogue, normal_form, unflatten

PASSES: tuple[tuple[str, tuple[RewriteRule, ...]], ...] = (
    ("normal form of products", normal_form.RULES),
    ("constant term into the bias", epilogue.BIAS_RULES),
    ("rows to images", unflatten.RULES),
    ("batch norm into the weight", batch_norm.RULES),
    ("activation into the epilogue", epilogue.ACTIVATION_RULES),
)


def rewrite(model: ir.Model) -> ir.Model:
    """Apply every pass to a specialised model, in place; returns it."""
    for _, rules in PASSES:
        RewriteRuleSet(rules).apply_to_model(model)
    return model
