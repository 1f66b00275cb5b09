"""Which algorithm serves which convolution: the direct kernel, one column at a time or several, or Winograd's."""

import contextlib
import contextvars

from nbprop.ops.conv import fast, plan, spread, wide

__all__ = ["exact", "exact_convolution", "explain", "forced", "using_winograd", "winograd_tile"]

_forced = contextvars.ContextVar("nbprop_winograd", default=None)
forced = _forced.get  # whether Winograd's algorithm is taken by force, or never; None where the chooser is free

# Measured against the direct kernel on two cores (Zen 5, AVX-512), forward | weight gradient, channels in and out:
# 8: 0.7 | 0.8    16: 1.6 | 1.5    64: 2.1 | 2.0    256 (14 x 14): 2.1 | 1.9    512 (7 x 7, 32 tiles): 1.2 | 1.1
# An output tile that hangs over the edge is computed whole: 6 x 6 outputs 1.1 | 1.4, 5 x 5 0.9 | 0.8.
# Two taps, 4x4 with stride 2 (Zen 3, AVX2), forward | input | weight gradient, 128 and 64 channels on 14 x 14 inputs:
# 1.5 | 1.5 | 1.5, 64 and 32: 1.3 | 1.0 | 1.3, where the input gradient's four phases each transform dy; 256 and 128 on
# 8 x 8, tiles 64 % full: 1.2 | 0.8 | 1.0.
_CHANNELS = 16
_PHASES_CHANNELS = 128
_INSIDE = {4: 0.55, 5: 0.7}  # of the tiles' outputs
# Terms at most of a sum over stride phases, or of two taps: in float32 its relative error is then 4e-6. Two taps came
# to 5.6e-6 over 512 terms, four phases of them to 8.5e-6 over 2048.
_DEPTH = {4: 512, 5: 256}
_ROWS = 1024  # phases' channels at most, whose sums a task of the weight gradient keeps in L2
_TILES = 32
# Operations below which half a dozen kernels more to compile cost more than they save: on maps of less than 12 x 12,
# which mostly belong to small nets, and on larger ones.
_OPERATIONS = 100_000_000, 60_000_000
# But 3x3 with stride 1, on larger ones or in sums over so many channels, where tiles are this full (3x3 and 6x6 maps,
# 56 %, came to 0.7 to 0.9 at 40 million), from where it is faster: 16 to 64 channels, two cores (Emerald Rapids,
# AVX-512), forward | backward: 5 million 0.6 to 1.5 | 0.9 to 1.2, 10 million 1.2 to 1.6 | 1.0 to 1.3, 20 million 1.3 to
# 2.1 | 1.2 to 1.3, 40 million 1.4 to 2.4 | 1.1 to 2.2. Two taps: 15 million 0.95 | 1.0.
_OPERATIONS_OF_THREE = 9_000_000
_MANY_CHANNELS = 64
_FULL = 0.75
_FEWER = {4: "9 products become 2.25 per output (and stride phase), and the channels pay for the transforms",
          5: "4 products become 1.44 per output and stride phase, and the channels pay for the transforms"}
_FEW_OF_A_PHASE = f"stride phases with sums over fewer than {_PHASES_CHANNELS} channels: transforms cost what they save"
_FEW = f"sums over fewer than {_CHANNELS} channels: transforms cost more than they save"


def winograd_tile(kind, g):
    """Return m for Winograd's F(m x m, r x r), or 0 for the direct kernel.

    `kind` is the pass: "forward", "input" or "weight".
    """
    return _winograd(kind, g)[0]


def explain(kind, g, dtype):
    """Return (algorithm, reason) of a pass, in the order in which the passes themselves ask."""
    m, why = _winograd(kind, g)
    if m:
        r = fast.taps(g)
        return f"Winograd F({m}x{m}, {r}x{r})", why
    if kind == "input" and spread.phases(g, dtype, exact()):
        return "direct, spread from columns", "a window's row fills the lanes where one pixel leaves them empty"
    columns = wide.phases if kind == "input" else wide.forward
    several = columns(g, dtype, exact())
    if several:
        Q = (several[0] if kind == "input" else several).columns
        return f"direct, {Q} columns at once", "so few output channels that one column leaves lanes empty"
    return _direct(kind, g), why


def _winograd(kind, g):
    """Return (m, reason)."""
    r = fast.taps(g)
    if _forced.get() is not None and r:
        return fast.TILE[r] if _forced.get() else 0, "by force"
    if not r:
        return 0, "Winograd wants 2x2 or 3x3, or so many taps per stride phase; one group; no more than full padding"
    m = fast.TILE[r]
    # Direct, few outputs leave lanes empty as well: what counts is how many channels a sum runs over.
    channels = {"forward": g.C, "input": g.O, "weight": min(g.C, g.O)}[kind]
    phases = g.SH * g.SW
    if channels < _CHANNELS:
        return 0, _FEW
    if phases > 1 and kind == "input" and channels < _PHASES_CHANNELS:
        return 0, _FEW_OF_A_PHASE
    depth = channels * phases if kind == "forward" else channels
    if (m == 5 or phases > 1) and kind != "weight" and depth > _DEPTH[m]:
        return 0, "the transformed sums would be too long for float32"
    if phases > 1 and kind == "weight" and phases * g.C > _ROWS:
        return 0, "a task's sums would not stay in its cache"
    outputs, tiles = fast.count(kind, g, m)
    if outputs < _INSIDE[m] * m * m * tiles:
        return 0, "tiles hang too far over the edge"
    operations = 2 * g.KH * g.KW * g.N * g.OH * g.OW * g.C * g.O
    large = min(g.OH, g.OW) >= 12
    full = outputs >= _FULL * m * m * tiles
    early = m == 4 and phases == 1 and full and (large or channels >= _MANY_CHANNELS)
    least = _OPERATIONS_OF_THREE if early else _OPERATIONS[large]
    if tiles < _TILES * (phases if kind == "input" else 1) or operations < least:
        return 0, "too few tiles, or too little work to be worth transforms and more kernels to compile"
    return m, _FEWER[m]


def _direct(kind, g):
    """Name the form that the dense correlation has."""
    p = plan.forward(g)
    if p.LANEWISE:
        return "direct, a channel per lane"
    if kind == "weight":
        return "direct, outer products"
    if p.H != g.H or p.W != g.W:
        return "direct, one matrix product"
    count = len(plan.phases(g)) if kind == "input" else 1
    return f"direct, {count} stride phases" if count > 1 else "direct"


def exact():
    """Say whether every pass is to keep to its own taps (`exact_convolution`, or an algorithm by force)."""
    return _forced.get() is not None


@contextlib.contextmanager
def using_winograd(wanted):
    """Compute the enclosed convolutions by Winograd's algorithm wherever it fits, or with `wanted` false never."""
    token = _forced.set(wanted)
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
    return using_winograd(False)
