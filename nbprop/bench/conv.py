"""The convolution rows: forward (with bias), input gradient, weight gradient (with bias)."""

import functools

import numpy as np

import nbprop
from nbprop import backend, layout, shapes
from nbprop.bench import on_gpu, peer
from nbprop.bench.contest import Contest, relative_error
from nbprop.bench.suite import PASSES
from nbprop.ops import conv, conv_transpose

__all__ = ["contests"]

TOLERANCE = 1e-5  # Winograd's transforms lose up to 5e-6


def contests(name, row, torch, device="cpu"):
    """Yield the three passes of a row, on data drawn anew; torch may be None."""
    arrays = _data(row)
    ours = _our_passes(row, *arrays) if device == "cpu" else _gpu_passes(row, *arrays)
    theirs = {form: _torch_passes(torch, row, *arrays, form, device) for form in peer.FORMATS} if torch else {}
    for pass_ in PASSES:
        runs = {"ours": ours[pass_]} | {form: passes[pass_] for form, passes in theirs.items()}
        errors = functools.partial(_errors, runs, torch, row, arrays, pass_, device)
        peers = {form: runs[form] for form in theirs}
        nbytes = sum(a.nbytes for a in arrays)
        yield Contest(name, pass_, ours[pass_], peers, errors, TOLERANCE, row.flops, nbytes)


def _errors(runs, torch, row, arrays, pass_, device):
    """Compare a pass with float64: torch's, or our reference loops (slow; for a GPU our CPU's) where it is not."""
    exact = [a.astype(np.float64) for a in arrays]
    if torch:
        expected = _torch_passes(torch, row, *exact, "nchw", device)[pass_]()
    else:
        with nbprop.using("reference" if device == "cpu" else "cpu"):
            expected = _our_passes(row, *exact)[pass_]()
    return {who: relative_error(run(), expected) for who, run in runs.items()}


def _data(row):
    """Random x, w, b and dy, in the memory order that a model keeps them in."""
    rng = np.random.default_rng(0)
    x, w, b, dy = (rng.standard_normal(s, np.float32) for s in (row.x_shape, row.w_shape, row.O, row.y_shape))
    return layout.channels_last(x), layout.khwio_last(w), b, layout.channels_last(dy)


def _our_passes(row, x, w, b, dy):
    """Return our three passes: the public functions, with all that they do."""
    rest = {"stride": row.S, "padding": row.P, "dilation": row.D, "groups": row.G}
    if row.transposed:
        forward = conv_transpose.conv_transpose2d_forward
        backward_input = conv_transpose.conv_transpose2d_backward_input
        backward_weight = conv_transpose.conv_transpose2d_backward_weight
    else:
        forward = conv.conv2d_forward
        backward_input, backward_weight = conv.conv2d_backward_input, conv.conv2d_backward_weight
    return {
        "forward": lambda: (forward(x, w, b, **rest),),
        "backward_input": lambda: (backward_input(dy, w, x.shape, **rest),),
        "backward_weight": lambda: backward_weight(dy, x, w.shape, **rest),
    }


def _gpu_passes(row, *arrays):
    """Return our three passes as a layer runs them, into buffers that it keeps."""
    x, w, b, dy = (on_gpu.ours(a, "cuda") for a in arrays)
    twin = backend.twin("conv_transpose" if row.transposed else "conv", x)
    geometry = shapes.conv_transpose2d if row.transposed else shapes.conv2d
    rest = {"stride": row.S, "padding": row.P, "dilation": row.D, "groups": row.G}
    g = geometry(row.x_shape, row.w_shape, **rest)
    y, dx, dw, db = (layout.empty_like(dy), layout.empty_like(x), layout.empty_weights(row.w_shape, x.dtype, x),
                     layout.empty_like(b))  # fmt: skip
    work = twin.workspace(g, x.dtype)
    return {
        "forward": lambda: twin.forward(x, w, b, y, g, False, work) or (y,),
        "backward_input": lambda: twin.backward_input(dy, w, None, dx, g, work) or (dx,),
        "backward_weight": lambda: twin.backward_weight(dy, x, dw, db, g, work) or (dw, db),
    }


def _torch_passes(torch, row, x, w, b, dy, form, device="cpu"):
    """Return torch's three passes, as suite's rules name them, on copies in one memory format."""
    tx, tw, tb, tdy = (peer.tensor(torch, a, form, device) for a in (x, w, b, dy))
    stride, padding, dilation = [row.S] * 2, [row.P] * 2, [row.D] * 2
    functional = torch.nn.functional

    def backward(*mask):
        return torch.ops.aten.convolution_backward(
            tdy, tx, tw, [row.O], stride, padding, dilation, row.transposed, [0, 0], row.G, mask)

    def forward():
        if row.transposed:
            return functional.conv_transpose2d(tx, tw, tb, row.S, row.P, 0, row.G, row.D)
        return functional.conv2d(tx, tw, tb, row.S, row.P, row.D, row.G)

    return {
        "forward": lambda: (forward(),),
        "backward_input": lambda: backward(True, False, False)[:1],
        "backward_weight": lambda: backward(False, True, True)[1:],
    }
