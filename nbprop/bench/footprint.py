"""The memory of this process through a few training steps: what `nbprop bench memory` runs in fresh processes.

It is run by its path, and imports no nbprop unless that is what it measures.
"""

import pathlib
import runpy
import sys

__all__ = ["peak_bytes", "show"]

STEPS = 3  # the first allocates, the others show whether that was all


def show(side, net, threads, batch, *sample):
    """Make steps of `side` ("ours" or a memory format of torch's); print the bytes that steps and process grew by.

    The process grows from before its imports; the steps from when model and batch are there.
    """
    start = peak_bytes()
    if side == "ours":
        run = _our_step(net, int(threads))
    else:
        run = _torch_step(side, net, int(threads), (int(batch), *map(int, sample)))
    imported = peak_bytes()
    ready = _forget_peak()
    for _ in range(STEPS):
        run()
    peak = peak_bytes()
    print(peak - ready, max(imported, peak) - start)


def _our_step(net, threads):
    from nbprop.bench import peer, step, suite

    peer.set_threads(threads)
    return step.alone(net, suite.net_rows()[net])


def _torch_step(form, net, threads, shape):
    """What is in the batch and the weights does not matter to memory."""
    import torch

    torch.set_num_threads(threads)
    nets = runpy.run_path(str(pathlib.Path(__file__).with_name("torch_nets.py")))
    x, target = torch.randn(shape), torch.arange(shape[0]) % 10
    net = nets["build"](torch, net)
    if form == "channels_last":
        net.to(memory_format=torch.channels_last)
        x = x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x
    return nets["training_step"](torch, net, x, target, 1e-4, 0.9)


def peak_bytes():
    """Return the most resident memory that this process has held.

    Linux's own figure is read where there is one: getrusage there starts from the parent's.
    """
    status = pathlib.Path("/proc/self/status")
    if status.exists():
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    try:
        import resource
    except ImportError:
        raise ValueError(f"system is {sys.platform}, which does not tell a process's peak memory; expected Linux or "
                         "macOS") from None  # fmt: skip
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _forget_peak():
    """Return the peak so far; on Linux let it first begin again at what is resident now."""
    reset = pathlib.Path("/proc/self/clear_refs")
    if reset.exists():
        reset.write_text("5")
    return peak_bytes()
