"""The training-step rows: forward, cross entropy, backward, SGD with momentum, as the trainer runs it."""

import numpy as np

import nbprop
from nbprop import layout, models, nn, optim
from nbprop.bench import on_gpu, peer, torch_nets
from nbprop.bench.contest import Contest, relative_error
from nbprop.gradcheck import in_float64
from nbprop.summary import summary
from nbprop.trainer import Trainer

__all__ = ["contests", "missing"]

# Small, so that thousands of steps on one batch neither diverge nor end in zeros.
LEARNING_RATE = 1e-4
MOMENTUM = 0.9
# Where float32 rounds to the other side of a ReLU or of a tie in pooling, a whole path of the gradient moves;
# through 19 ReLUs and norms some always do: torch itself is then 1e-2 off.
TOLERANCE, DEEP_TOLERANCE = 1e-3, 5e-2


def missing(name, row):
    """Say why a row cannot run, or return None."""
    return None if hasattr(models, name) else f"nbprop.models has no {name} yet"


def contests(name, row, torch, device="cpu"):
    """Yield the one contest of a net, on a batch drawn anew; torch may be None."""
    rng = np.random.default_rng(0)
    x = layout.channels_last(rng.standard_normal((row.batch, *row.sample), np.float32))
    target = rng.integers(row.classes, size=row.batch)
    model = getattr(models, name)(**dict(row.arguments))
    start, flops = model.state_dict(), _flops(model, x)
    steps = {"ours": _our_step(model, x, target, device)}
    for form in peer.FORMATS if torch else ():
        steps[form] = _torch_step(torch, name, start, x, target, form, device=device)

    def errors():
        expected = _in_float64(torch, name, row, start, x, target, device)
        return {who: relative_error(_after(*step), expected) for who, step in steps.items()}

    runs = {who: run for who, (run, _) in steps.items()}
    traffic = x.nbytes + 6 * model.data.nbytes  # weights, gradients and momentum are each read and written
    tolerance = DEEP_TOLERANCE if name == "resnet20" else TOLERANCE
    yield Contest(name, "step", runs.pop("ours"), runs, errors, tolerance, flops, traffic)


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
    optimizer = torch.optim.SGD(net.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM)

    def run():
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(net(x), target)
        loss.backward()
        optimizer.step()
        return loss.detach()

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
