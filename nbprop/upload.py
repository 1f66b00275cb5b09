"""Batches on their way to the GPU: from page-locked memory, on a stream of their own."""

import numpy as np

from nbprop import gpu
from nbprop.gpu import cuda

__all__ = ["Upload", "pinned"]

_NON_BLOCKING = 1  # a stream that does not wait for the default one, on which kernels run


def pinned(shape, dtype):
    """Allocate an array of the host in page-locked memory, from which copies run while kernels do."""
    gpu.memory.ready()
    return cuda.pinned_array(tuple(shape), np.dtype(dtype))


class Upload:
    """Page-locked arrays and their doubles on the GPU, copied while kernels run.

        upload.wait()     # before filling the arrays: the last copy has left them
        upload.start()    # kernels launched from now on see the new values in upload.there
        upload.used()     # after the last kernel that reads them

    Parameters
    ----------
    *here : array
        Made by `pinned`, or transposed views of such.
    """

    def __init__(self, *here):
        self.here, self.there = here, [gpu.to_device(a) for a in here]
        self._stream, self._copied, self._read = _stream(), _event(), _event()

    def wait(self):
        """Wait, on the host, until the last copy is done."""
        self._copied.synchronize()

    def start(self):
        """Copy, once the kernels before `used` are done; kernels to come wait for it, the host does not."""
        self._read.wait(self._stream)
        for here, there in zip(self.here, self.there):
            gpu.memory.to_device(there.address, here, self._stream)
        self._copied.record(self._stream)
        self._copied.wait()

    def used(self):
        """Say that all kernels that read the arrays have been launched."""
        self._read.record()


def _stream():
    if gpu.SIMULATED:
        return cuda.stream()
    return cuda.external_stream(int(gpu.driver.cuStreamCreate(_NON_BLOCKING)))


def _event():
    return cuda.event() if gpu.SIMULATED else cuda.event(timing=False)
