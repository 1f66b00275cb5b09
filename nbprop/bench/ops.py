"""The rows bound by memory: layers and losses forward and backward, and optimisers, as a step runs them.

Ours are the objects of `nbprop.nn` and `nbprop.optim` with the buffers that they keep; the peer's are torch's
of the same names with eager autograd, and its optimisers in each of their implementations.
"""

import numpy as np

import nbprop
from nbprop import layout, nn, optim
from nbprop.bench import on_gpu, peer
from nbprop.bench.contest import Contest, relative_error
from nbprop.gradient_check import in_float64
from nbprop.nn.parameter import Parameter, move

__all__ = ["contests"]

TOLERANCE = 1e-4  # sums of a million terms in float32

# What to make from `nbprop.nn` or `torch.nn`, for C channels.
LAYERS = {
    "relu": lambda nn, C: nn.ReLU(),
    "maxpool": lambda nn, C: nn.MaxPool2d(2),
    "avgpool": lambda nn, C: nn.AvgPool2d(2),
    "batch_norm": lambda nn, C: nn.BatchNorm2d(C),
    "instance_norm": lambda nn, C: nn.InstanceNorm2d(C),
    "tanh": lambda nn, C: nn.Tanh(),
    "gram": lambda nn, C: nn.GramMatrix(),
}
LOSSES = {"softmax_ce": lambda nn: nn.CrossEntropyLoss(), "tv": lambda nn: nn.TotalVariationLoss()}
OPTIMIZERS = {"sgd_momentum": ("SGD", {"lr": 1e-3, "momentum": 0.9}), "adam": ("Adam", {"lr": 1e-3})}
IMPLEMENTATIONS = {"default": {}, "foreach": {"foreach": True}, "fused": {"fused": True}}

# How many arrays as large as x cross the memory bus at least, where the backward pass finds nothing of the
# forward pass in the cache. Pooling's y is a quarter; batch norm reads its inputs twice: sums come first.
ARRAYS_MOVED = {
    "relu": 5, "maxpool": 2.5, "avgpool": 2.5, "batch_norm": 8, "instance_norm": 5, "softmax_ce": 2,
    "tanh": 5, "tv": 2, "gram": 3, "sgd_momentum": 5, "adam": 7,
}  # fmt: skip


def contests(name, shape, torch, device="cpu"):
    """Yield the one contest of a row, on data drawn anew; torch may be None."""
    pass_, draw, ours, theirs = _kind(name)
    arrays = draw(name, shape)
    forms = _forms(name, shape)
    runs = {"ours": ours(name, *arrays, device=device)}
    for form in forms if torch else ():
        runs[form] = theirs(torch, name, form, *arrays, device=device)

    def errors():
        exact = [a.astype(np.float64) if a.dtype == np.float32 else a for a in arrays]
        if torch:
            expected = theirs(torch, name, forms[0], *exact, device=device)()
        else:
            with nbprop.using("reference" if device == "cpu" else "cpu"):
                expected = ours(name, *exact)()
        return {who: relative_error(run(), expected) for who, run in runs.items()}

    peers = {who: run for who, run in runs.items() if who != "ours"}
    nbytes = int(ARRAYS_MOVED[name] * arrays[0].nbytes)
    yield Contest(name, pass_, runs["ours"], peers, errors, TOLERANCE, _flops(name, shape), nbytes)


def _kind(name):
    """Return the pass's name, and what draws the data and makes our run and theirs; runs return arrays."""
    if name in LAYERS:
        return "forward+backward", _layer_data, _our_layer, _torch_layer
    if name in LOSSES:
        return "value+gradient", _loss_data, _our_loss, _torch_loss
    return "update", _optimizer_data, _our_optimizer, _torch_optimizer


def _forms(name, shape):
    """The ways torch can do a row: memory formats of images, implementations of optimisers."""
    if name in OPTIMIZERS:
        return tuple(IMPLEMENTATIONS)
    return peer.FORMATS if len(shape) == 4 else ("contiguous",)


def _flops(name, shape):
    """Multiplications and additions: of half the symmetric Gram matrix, and of its gradient."""
    if name != "gram":
        return 0
    N, C, H, W = shape
    return N * H * W * C * (C + 1) + 2 * N * H * W * C * C


def _layer_data(name, shape):
    """Draw x, dy and the layer's parameters."""
    rng = np.random.default_rng(0)
    layer = LAYERS[name](nn, shape[1])
    x = layout.channels_last(rng.standard_normal(shape, np.float32))
    shapes = [layer.forward(x).shape, *(p.shape for p in layer.parameters())]
    return [x, *(layout.channels_last(rng.standard_normal(s, np.float32)) for s in shapes)]


def _our_layer(name, x, dy, *weights, device="cpu"):
    layer = LAYERS[name](nn, x.shape[1])
    if x.dtype == np.float64:
        layer = in_float64(layer)
    x, dy, layer = on_gpu.ours(x, device), on_gpu.ours(dy, device), layer.to(device)
    parameters = list(layer.parameters())
    for p, value in zip(parameters, weights, strict=True):
        p.data[...] = value

    def run():
        y = layer.forward(x)
        dx = layer.backward(dy)
        return y, dx, *(p.grad for p in parameters)

    return run


def _torch_layer(torch, name, form, x, dy, *weights, device="cpu"):
    x, dy, *weights = (peer.tensor(torch, a, form, device) for a in (x, dy, *weights))
    layer = _torch_gram if name == "gram" else LAYERS[name](torch.nn, x.shape[1]).to(x.dtype).to(device)
    parameters = [] if name == "gram" else list(layer.parameters())
    with torch.no_grad():
        for p, value in zip(parameters, weights, strict=True):
            p.copy_(value)
    inputs = [x.requires_grad_(), *parameters]

    def run():
        y = layer(x)
        return y.detach(), *torch.autograd.grad(y, inputs, dy)

    return run


def _torch_gram(x):
    maps = x.flatten(2)
    return maps @ maps.transpose(1, 2)


def _loss_data(name, shape):
    """Draw what the loss is of, and labels where it takes them."""
    rng = np.random.default_rng(0)
    x = layout.channels_last(rng.standard_normal(shape, np.float32))
    return [x, rng.integers(shape[1], size=shape[0])] if name == "softmax_ce" else [x]


def _our_loss(name, *arrays, device="cpu"):
    loss = LOSSES[name](nn)
    arrays = [on_gpu.ours(a, device) for a in arrays]
    if device == "cuda":
        return lambda: (loss.forward(*arrays).reshape(()), loss.backward())
    return lambda: (loss.forward(*arrays), loss.backward())


def _torch_loss(torch, name, form, *arrays, device="cpu"):
    x, *target = (peer.tensor(torch, a, form, device) for a in arrays)
    loss = (lambda x: _torch_total_variation(torch, x)) if name == "tv" else LOSSES[name](torch.nn)
    x.requires_grad_()

    def run():
        value = loss(x, *target)
        return value.detach(), *torch.autograd.grad(value, x)

    return run


def _torch_total_variation(torch, x):
    """The far edges apart: padding them with zeros costs two more copies, and gives NaN at the corner."""
    right, down = x.diff(dim=3), x.diff(dim=2)
    inside = torch.hypot(right[:, :, :-1], down[:, :, :, :-1])
    return inside.sum() + right[:, :, -1].abs().sum() + down[:, :, :, -1].abs().sum()


def _optimizer_data(name, shape):
    """Draw a gradient."""
    return [np.random.default_rng(0).standard_normal(shape, np.float32)]


def _our_optimizer(name, gradient, device="cpu"):
    """One step has been made before, from zeros: so all digits of the parameters are the updates'."""
    kind, options = OPTIMIZERS[name]
    p = Parameter(np.zeros_like(gradient))
    p.grad[...] = gradient
    move([p], device)
    optimizer = getattr(optim, kind)([p], **options)
    optimizer.step()

    def run():
        optimizer.step()
        return p.data, *optimizer.param_groups[0]["state"].values()

    return run


def _torch_optimizer(torch, name, form, gradient, device="cpu"):
    kind, options = OPTIMIZERS[name]
    gradient = peer.tensor(torch, gradient, form, device)
    p = torch.nn.Parameter(torch.zeros_like(gradient))
    p.grad = gradient
    optimizer = getattr(torch.optim, kind)([p], **options, **IMPLEMENTATIONS[form])
    optimizer.step()

    def run():
        optimizer.step()
        return p.detach(), *(value for value in optimizer.state[p].values() if value.ndim)

    return run
