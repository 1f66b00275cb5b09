"""Which algorithm serves which convolution: the direct kernel, or Winograd's with tiles of 4 x 4."""

import contextlib
import contextvars

from nbprop.ops.conv import fast

__all__ = ["exact", "exact_convolution", "using_tile", "winograd_tile"]

_forced = contextvars.ContextVar("nbprop_winograd_tile", default=None)

# Measured against the direct kernel on two cores (Zen 5, AVX-512), forward | weight gradient, channels in and out:
# 8: 0.7 | 0.8    16: 1.6 | 1.5    64: 2.1 | 2.0    256 (14 x 14): 2.1 | 1.9    512 (7 x 7, 32 tiles): 1.2 | 1.1
# An output tile that hangs over the edge is computed whole: 6 x 6 outputs 1.1 | 1.4, 5 x 5 0.9 | 0.8.
_CHANNELS = 16
_INSIDE = 0.55  # of the tiles' outputs
_TILES = 32
_OPERATIONS = 30_000_000  # below, entering several parallel regions instead of one costs more than is saved


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
    inside = g.N * g.OH * g.OW >= _INSIDE * 16 * tiles
    large = tiles >= _TILES and 18 * g.N * g.OH * g.OW * g.C * g.O >= _OPERATIONS
    # Direct, few outputs leave lanes empty as well: what counts is how many channels a sum runs over.
    channels = {"forward": g.C, "input": g.O, "weight": min(g.C, g.O)}[kind]
    return 4 if inside and large and channels >= _CHANNELS else 0


def exact():
    """Say whether every pass is to keep to its own taps (`exact_convolution`, or an algorithm by force)."""
    return _forced.get() is not None


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
