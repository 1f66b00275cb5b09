"""Which algorithm serves which convolution: the direct kernel, or Winograd's with tiles of 4 x 4."""

import contextlib
import contextvars

from nbprop.ops.conv import fast

__all__ = ["exact_convolution", "using_tile", "winograd_tile"]

_forced = contextvars.ContextVar("nbprop_winograd_tile", default=None)

# Measured against the direct kernel on one core (Zen 5, AVX-512), forward | weight gradient, channels in and out:
# 16: 1.4 | 0.8    32: 1.4 | 1.2    64: 2.1 to 2.5 | 2.0    128: 3.1 | 2.7    256 (128 tiles): 1.7 | 1.6
# 512 (32 tiles): 0.8 | 0.8. There the transformed weights, 36 numbers for 9, are most of the work. On maps of 8 x 8
# every tile hangs over an edge, for which it is copied: 1.0 | 1.0 at 32 and at 64 channels.
_CHANNELS = {"forward": 16, "input": 16, "weight": 32}
_TILES = 96
_MAP = 12
_OPERATIONS = 100_000_000  # below, entering three parallel regions instead of one costs more than is saved


def winograd_tile(kind, g):
    """Return m for Winograd's F(m x m, 3 x 3), or 0 for the direct kernel.

    `kind` is the pass: "forward", "input" or "weight".
    """
    forced = _forced.get()
    if not fast.serves(g) or forced == 0:
        return 0
    if forced is not None:
        return forced
    tiles = g.N * -(-g.OH // 4) * -(-g.OW // 4)
    operations = 18 * g.N * g.OH * g.OW * g.C * g.O
    large = min(g.OH, g.OW) >= _MAP and tiles >= _TILES and operations >= _OPERATIONS
    return 4 if large and min(g.C, g.O) >= _CHANNELS[kind] else 0


@contextlib.contextmanager
def using_tile(m):
    """Compute the enclosed 3x3 convolutions with F(m x m, 3 x 3), or with m = 0 by the direct kernel."""
    token = _forced.set(m)
    try:
        yield
    finally:
        _forced.reset(token)


def exact_convolution():
    """Keep the enclosed convolutions to the direct kernel.

    Winograd's algorithm is as exact as its products in infinite precision, but not in float32: its relative error
    (l2, against float64) is 1e-6 to 4e-6 at 32 to 512 channels, the direct kernel's 2e-7 to 1e-6.

        with nbprop.exact_convolution():
            y = model(x)
    """
    return using_tile(0)
