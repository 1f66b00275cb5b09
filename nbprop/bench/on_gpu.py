"""What timing on a GPU needs: its clock, its limits, work that its cache does not hold, and toys for the simulator."""

import math
import time

from nbprop import layout
from nbprop.bench.suite import Conv, Net

__all__ = ["copying", "gpu_row", "ours", "peak_gflops", "prepare_torch", "seconds_per_call"]

_MORE = 32  # times the suite's batch: inputs that no L2 cache holds
_VECTORS = 4  # times the optimisers' ten million parameters
_BATCH = {"cifar_cnn": 512, "resnet20": 512}  # of the steps; the others' are the suite's
_LANES = {(7, 5): 64, (8, 0): 64}  # float32 multiply-adds per clock of a multiprocessor, else 128


def ours(array, device):
    """Put an array where our side runs."""
    return layout.mover(device)(array)


def prepare_torch(torch):
    """Let cuDNN look for its fastest algorithms, in float32 as ours."""
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False


def gpu_row(name, row):
    """Return a row of the suite at the size for a GPU; in the simulator a toy."""
    if layout.gpu().SIMULATED:
        return _toy(name, row)
    if isinstance(row, Conv):
        return row._replace(N=_MORE * row.N)
    if isinstance(row, Net):
        return row._replace(batch=_BATCH.get(name, row.batch))
    return (_VECTORS * row[0],) if len(row) == 1 else (_MORE * row[0], *row[1:])


def seconds_per_call(function, least):
    """Return the mean time of a call over at least `least` seconds, by events on the GPU."""
    once = _seconds(function, 1)
    if layout.gpu().SIMULATED:
        return once
    return _seconds(function, min(max(math.ceil(least / max(once, 1e-7)), 1), 10_000))


def peak_gflops():
    """Return the GFLOP/s of float32 multiply-adds that the GPU's clock and units allow; 1 in the simulator."""
    gpu = layout.gpu()
    if gpu.SIMULATED:
        return 1.0
    found = gpu.cuda.get_current_device()
    lanes = _LANES.get(tuple(found.compute_capability), 128)
    return 2 * lanes * found.MULTIPROCESSOR_COUNT * found.CLOCK_RATE * 1e3 / 1e9  # CLOCK_RATE is in kHz


def copying(nbytes):
    """Return a function that copies inside the GPU's memory, `nbytes` read and written in all."""
    gpu = layout.gpu()
    source, target = (gpu.empty((max(nbytes // 2, 1),), "uint8") for _ in range(2))

    def copy():
        gpu.memory.copy(target.address, source.address, source.nbytes)

    return copy


def _seconds(function, calls):
    """Time calls from the first one's launch to the last one's end; in the simulator by the host's clock."""
    cuda = layout.gpu().cuda
    begin, end, begun = cuda.event(), cuda.event(), time.perf_counter()
    begin.record()
    for _ in range(calls):
        function()
    end.record()
    end.synchronize()
    elapsed = time.perf_counter() - begun if layout.gpu().SIMULATED else begin.elapsed_time(end) / 1e3
    return max(elapsed, 1e-9) / calls


def _toy(name, row):
    if isinstance(row, Conv):
        C, O = min(row.C, 2), min(row.O, 2)
        return row._replace(N=1, C=C, O=O, H=row.K + 1, W=row.K + 1, G=C if row.G > 1 else 1)
    if isinstance(row, Net) and name == "mlp":
        return Net(2, (4,), 3, (("channels", 4), ("size", 1), ("classes", 3), ("hidden", 4)))
    if isinstance(row, Net):
        return row._replace(batch=1)
    return {1: (40,), 2: (4, 5), 4: (2, 4, 4, 4)}[len(row)]
