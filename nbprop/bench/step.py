"""The training-step rows: forward, cross entropy, backward, SGD with momentum, as the trainer runs it."""

import numpy as np

import nbprop
from nbprop import layout, models, nn, optim
from nbprop.bench import jax_step, on_gpu, peer, torch_nets
from nbprop.bench.contest import Contest, relative_error
from nbprop.gradient_check import in_float64
from nbprop.model_summary import summary
from nbprop.nn.init import manual_seed
from nbprop.trainer import Trainer

__all__ = ["alone", "contests", "missing"]

# Small, so that thousands of steps on one batch neither diverge nor end in zeros.
LEARNING_RATE = 1e-4
MOMENTUM = 0.9
# Where float32 rounds to the other side of a ReLU or of a tie in pooling, a whole path of the gradient moves;
# through 19 ReLUs and norms some always do: torch itself is then 1e-2 off. In cifar_cnn one does for every third
# initialisation, and ours or one of torch's two is then 2e-3 to 4e-3 off instead of 4e-6.
TOLERANCE, DEEP_TOLERANCE = 1e-2, 5e-2


def missing(name, row):
    """Say why a row cannot run, or return None."""
    return None if hasattr(models, name) else f"nbprop.models has no {name} yet"


def contests(name, row, torch, device="cpu", jax=None):
    """Yield the one contest of a net, on a batch drawn anew; torch and jax may be None."""
    model, start, x, target = _drawn(name, row)
    flops = _flops(model, x)
    steps = {"ours": _our_step(model, x, target, device)}
    for form in peer.FORMATS if torch else ():
        steps[form] = _torch_step(torch, name, start, x, target, form, device=device)
    if jax:
        steps["jit"] = jax_step.mlp_step(jax, start, x, target, LEARNING_RATE, MOMENTUM)

    def errors():
        expected = _in_float64(torch, name, row, start, x, target, device)
        return {who: relative_error(_after(*step), expected) for who, step in steps.items()}

    runs = {who: run for who, (run, _) in steps.items()}
    traffic = x.nbytes + 6 * model.data.nbytes  # weights, gradients and momentum are each read and written
    tolerance = DEEP_TOLERANCE if name == "resnet20" else TOLERANCE
    yield Contest(name, "step", runs.pop("ours"), runs, errors, tolerance, flops, traffic)


def alone(name, row):
    """Return our step with nothing run before: its first call allocates what the model keeps."""
    model, _, x, target = _drawn(name, row)
    return _our_step(model, x, target, "cpu")[0]


def _drawn(name, row):
    """Return a model, its weights, and a batch, the same at every call."""
    manual_seed(0)
    rng = np.random.default_rng(0)
    x = layout.channels_last(rng.standard_normal((row.batch, *row.sample), np.float32))
    model = getattr(models, name)(**dict(row.arguments))
    return model, model.state_dict(), x, rng.integers(row.classes, size=row.batch)


def _after(run, gradients):
    """Make a step; return the loss and every gradient."""
    return [run(), *gradients()]


def _our_step(model, x, target, device="cpu"):
    """Return the trainer's step on a batch, and a function that reads the gradients it left."""
    optimizer = optim.SGD(model.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM)
    trainer = Trainer(model, nn.CrossEntropyLoss(), optimizer, device=device)
    x, target = on_gpu.ours(x, device), on_gpu.ours(target, device)
    step = trainer.step if device == "cpu" else lambda *batch: trainer.step(*batch).reshape(())
    return lambda: step(x, target), lambda: [p.grad for p in model.parameters()]


def _torch_step(torch, name, start, x, target, form, dtype=np.float32, device="cpu"):
    """The same for PyTorch, eager, in one memory format."""
    net = torch_nets.build(torch, name)
    net.load_state_dict(dict(zip(net.state_dict(), map(torch.from_numpy, start.values()), strict=True)))
    net.to(device, peer.tensor(torch, np.zeros(0, dtype), form).dtype)
    if form == "channels_last":
        net.to(memory_format=torch.channels_last)
    x, target = peer.tensor(torch, x.astype(dtype), form, device), torch.from_numpy(target).to(device)
    run = torch_nets.training_step(torch, net, x, target, LEARNING_RATE, MOMENTUM)
    return run, lambda: [p.grad for p in net.parameters()]


def _in_float64(torch, name, row, start, x, target, device):
    """One step from the same weights in float64: by torch, or by our reference loops without it (our CPU's)."""
    if torch:
        return _after(*_torch_step(torch, name, start, x, target, "nchw", np.float64, device))
    model = in_float64(getattr(models, name)(**dict(row.arguments)))
    model.load_state_dict(start)
    with nbprop.using("reference" if device == "cpu" else "cpu"):
        return _after(*_our_step(model, x.astype(np.float64), target))


def _flops(model, x):
    """Multiplications and additions of a step's products: three passes, without the first layer's dx."""
    forward = [row.flops for row in summary(model, x.shape) if row.flops]
    return 3 * sum(forward) - forward[0]
