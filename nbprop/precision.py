"""How exactly the GPU multiplies float32 matrices: in float32, or on tensor cores with rounded operands.

Sums, and all that is stored, stay float32. Off unless asked for, and without effect on the CPU, on float64, and on
GPUs without such tensor cores (below compute capability 8.0).
"""

__all__ = ["allow_bf16", "allow_tf32", "products"]

_allowed = {"bf16": False, "tf32": False, "float32": True}


def allow_tf32(allow=True):
    """Let convolutions and linear layers round their operands to TF32: 10 bits of mantissa, relative error 1e-3."""
    _allowed["tf32"] = bool(allow)


def allow_bf16(allow=True):
    """Let them round their operands to bfloat16: 7 bits of mantissa, relative error 1e-2; weights stay float32."""
    _allowed["bf16"] = bool(allow)


def products():
    """Return the coarsest form of products that is allowed: "bf16", "tf32" or "float32"."""
    return next(name for name, allowed in _allowed.items() if allowed)
