"""`nbprop bench conv --explain`: which algorithm each pass of each convolution takes, and why."""

import numpy as np

from nbprop import shapes
from nbprop.bench import suite
from nbprop.ops.conv import choose

__all__ = ["explain"]

_KINDS = {"forward": "forward", "backward_input": "input", "backward_weight": "weight"}
_EXCHANGED = {"forward": "input", "backward_input": "forward", "backward_weight": "weight"}


def explain(names=()):
    """Yield a line for each pass of the rows called `names` (all if none is named); nothing is run.

    Raises
    ------
    ValueError
        If a name is not in the suite.
    """
    yield f"{'row':<13} {'pass':<16} {'algorithm':<28} because"
    for name, row in suite.select(suite.conv_rows(), names).items():
        for pass_ in suite.PASSES:
            algorithm, why = choose.explain(*_asked(row, pass_), np.dtype(np.float32))
            yield f"{name:<13} {pass_:<16} {algorithm:<28} {why}"


def _asked(row, pass_):
    """Return the kind and geometry that the chooser is asked for: a transposed convolution's passes change places."""
    if row.transposed:
        return _EXCHANGED[pass_], shapes.conv_transpose2d(
            row.x_shape, row.w_shape, row.S, row.P, dilation=row.D, groups=row.G)  # fmt: skip
    return _KINDS[pass_], shapes.conv2d(row.x_shape, row.w_shape, row.S, row.P, row.D, row.G)
