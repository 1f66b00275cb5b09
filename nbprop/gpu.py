"""The only module that imports CUDA: its kernels' decorator, arrays in GPU memory, and what is missing.

Nothing imports it before a first array on the GPU is at hand. Kernels are written with

    from nbprop.gpu import cuda, kernel

and may call every ``jit.scalar`` function: numba-cuda compiles it for the GPU as well. In the CUDA simulator
(``NUMBA_ENABLE_CUDASIM=1``, chosen before Numba is imported) all of this runs on the host.
"""

import ctypes
import functools
import importlib.metadata
import importlib.util
import math
import os
from types import SimpleNamespace

import numpy as np

from nbprop import jit

if importlib.util.find_spec("numba_cuda") is None:
    raise ImportError('numba-cuda is not installed, which computes on NVIDIA GPUs; install "nbprop[cuda]" (or '
                      '"nbprop[cuda12]" for drivers of CUDA 12)')
try:
    from numba import cuda
    from numba.cuda.core import config
    from numba.cuda.cudadrv import nvvm
    from numba.cuda.cudadrv.driver import driver
    from numba.cuda.np.numpy_support import from_dtype
    from numba.cuda.types import Array as _ArrayType
    from numba.cuda.types import int32, int64, uint32
except Exception as e:  # NumPy 2.5 dropped names that numba-cuda uses: whatever breaks, say which versions met
    raise ImportError(f"numba-cuda {importlib.metadata.version('numba_cuda')} does not import beside NumPy "
                      f"{np.__version__} ({e}); install an older NumPy, or a newer numba-cuda") from e

if "NUMBA_CUDA_LOW_OCCUPANCY_WARNINGS" not in os.environ:
    config.CUDA_LOW_OCCUPANCY_WARNINGS = 0  # users' kernels too; few blocks for small arrays are right
SIMULATED = bool(config.ENABLE_CUDASIM)
if not SIMULATED:
    from numba.cuda.extending import intrinsic  # noqa: F401  (for twins that emit instructions of their own)
ALIGNED = None if SIMULATED else 16  # bytes that shared memory starts at a multiple of, where it is read in fours

__all__ = [
    "ALIGNED",
    "SIMULATED",
    "THREADS",
    "Array",
    "Scratch",
    "add",
    "as_array",
    "blocks",
    "capability",
    "cuda",
    "description",
    "device",
    "empty",
    "from_dtype",
    "int32",
    "int64",
    "kernel",
    "larger",
    "multiply",
    "reduction",
    "synchronize",
    "thread_sum",
    "to_device",
    "to_host",
    "uint32",
]

THREADS = 256  # of a block of an element-wise pass; a power of two
_MOST_BLOCKS = 1 << 16  # of such a pass: each thread then takes more elements than one
_LEAST_CAPABILITY = (7, 5)
_RANK = 6  # most axes of an array that is copied from one order of memory to another


def kernel(function=None, *, launch_bounds=None):
    """Compile a kernel; bounds are the most threads of a block, or those and the fewest blocks of a multiprocessor.

    No fast math: NaN and infinity must show, and divisions be exact. Multiply-adds are fused by default.
    """
    if function is None:
        return functools.partial(kernel, launch_bounds=launch_bounds)
    if not SIMULATED:
        return cuda.jit(function, launch_bounds=launch_bounds)
    body = device(function)

    @functools.wraps(function)
    def on_host(*arguments):
        body(*(v.phantom if isinstance(v, Array) else v for v in arguments))

    return cuda.jit(on_host)


def device(function):
    """Compile a function that kernels call and that itself names ``cuda``: shared memory, thread indices."""
    return cuda.jit(function, device=True, **{} if SIMULATED else {"forceinline": True})


def blocks(elements, threads=None):
    """Return how many blocks a grid-stride pass over `elements` is launched with."""
    return max(1, min(-(-elements // (threads or THREADS)), _MOST_BLOCKS))


@jit.scalar
def add(a, b):
    """The sum, for `reduction`."""
    return a + b


@jit.scalar
def larger(a, b):
    """The larger of two, NaN if either is, for `reduction`."""
    return a if a > b or a != a else b


@functools.cache
def reduction(combine, threads, dtype, width=1):
    """Make total(value): `combine` over the threads of a block, in a fixed tree, for every thread to see.

    `combine` is a ``jit.scalar`` function of two numbers of `dtype`; threads / width is a power of two. With
    `width`, thread t belongs to column t % width: each column has a total of its own.
    """
    number = from_dtype(np.dtype(dtype))

    @device
    def total(value):
        partial = cuda.shared.array(threads, number)
        t = cuda.threadIdx.x
        cuda.syncthreads()  # the totals of a call before this one have been read
        partial[t] = value
        cuda.syncthreads()
        half = threads // 2
        while half >= width:
            if t < half:
                partial[t] = combine(partial[t], partial[t + half])
            cuda.syncthreads()
            half //= 2
        return partial[t % width]

    return total


@device
def thread_sum(values, threads):
    """This thread's part of a flat array's float64 sum, for `reduction`: elements go round a block's threads."""
    mine = 0.0
    for i in range(cuda.threadIdx.x, values.size, threads):
        mine += np.float64(values[i])
    return mine


class Array:
    """Memory of the GPU under a shape and strides, as a NumPy array is; views share it.

    All that concerns shape is left to NumPy: `phantom` is an array over the same address, which the host must
    never read. Arithmetic is for kernels; here are views, copies, assignment, and conversion.
    """

    __array_ufunc__ = None  # NumPy's operators raise TypeError instead of reading the phantom
    __cuda_memory__ = __cuda_ndarray__ = True

    def __init__(self, phantom, owner):
        self.phantom, self.owner = phantom, owner  # the owner frees the memory when no view is left
        self.shape, self.strides, self.dtype = phantom.shape, phantom.strides, phantom.dtype
        self.ndim, self.size, self.nbytes, self.flags = phantom.ndim, phantom.size, phantom.nbytes, phantom.flags

    @property
    def __cuda_array_interface__(self):
        return {"shape": self.shape, "strides": self.strides, "typestr": self.dtype.str, "version": 3,
                "data": (self.address, False), "stream": None}

    @functools.cached_property
    def address(self):
        return self.phantom.__array_interface__["data"][0]

    @functools.cached_property
    def run(self):
        """All elements as one run of memory, in their order there."""
        if not self.transpose(_order(self)).flags.c_contiguous:
            raise ValueError(f"array on the GPU has shape {self.shape} and strides {self.strides}, which leave gaps")
        return Array(_phantom((self.size,), self.dtype.str, self.address, None), self.owner)

    @functools.cached_property
    def _numba_type_(self):
        return _type(self.dtype, self.ndim, self.flags.c_contiguous)

    @functools.cached_property
    def _strided_memory_view_shim(self):
        """What a launch reads of an array."""
        c, f = self.flags.c_contiguous, self.flags.f_contiguous
        layout = SimpleNamespace(strides_in_bytes=self.strides, is_contiguous_c=c, is_contiguous_f=f,
                                 is_contiguous_any=c or f)
        return SimpleNamespace(ptr=self.address, shape=self.shape, dtype=self.dtype, size=self.size, _layout=layout)

    def __array__(self, *_, **__):
        raise TypeError("an array on the GPU came where a NumPy array is expected; copy it with nbprop.to_host")

    def __len__(self):
        return len(self.phantom)

    def __repr__(self):
        return f"<{self.dtype} array {self.shape} on the GPU>"

    def __deepcopy__(self, memo):
        return self.copy("K")

    def transpose(self, *axes):
        return Array(self.phantom.transpose(*axes), self.owner)

    T = property(transpose)

    def reshape(self, *shape):
        if not self.flags.c_contiguous:  # NumPy would copy, and read
            raise ValueError(f"array on the GPU has shape {self.shape} and strides {self.strides}; only "
                             "C-contiguous ones are reshaped: take contiguous(a) first")
        return Array(self.phantom.reshape(*shape), self.owner)

    def view(self, dtype):
        return Array(self.phantom.view(dtype), self.owner)

    def __getitem__(self, key):
        keys = key if isinstance(key, tuple) else (key,)
        if not all(k is None or k is ... or isinstance(k, (int, np.integer, slice)) for k in keys):
            raise TypeError(f"index is {key!r}; expected integers and slices, which only view the array")
        return Array(self.phantom[keys if ... in keys else (*keys, ...)], self.owner)

    def __setitem__(self, key, value):
        target = self if key is ... else self[key]
        if target.size == 0:
            return
        if not isinstance(value, Array):
            value = to_device(np.asarray(value, self.dtype))
        _spread(target, value)

    def copy(self, order="C"):
        """Return a copy in C order, or with order "K" in this array's own order of memory."""
        return _spread(_empty(self.phantom, self.dtype, order), self)

    def astype(self, dtype, copy=True):
        """Return the values as `dtype`, in this array's order of memory."""
        return self if not copy and self.dtype == dtype else _spread(_empty(self.phantom, np.dtype(dtype), "K"), self)

    def __reduce__(self):
        return to_device, (to_host(self),)

    def item(self):
        """Return the only element, once the GPU has computed it."""
        return to_host(self).item()


def empty(shape, dtype):
    """Allocate a C-contiguous array on the GPU."""
    dtype = np.dtype(dtype)
    owner, address = memory.allocate(max(math.prod(shape) * dtype.itemsize, 1))
    return Array(_phantom(tuple(shape), dtype.str, address, None), owner)


class Scratch:
    """Memory that a twin's passes share, allocated when one of them first asks for it."""

    def __init__(self, dtype):
        self.dtype, self.memory = np.dtype(dtype), None

    def room(self, size):
        """Return `size` elements or more, flat; what they hold is anyone's."""
        if self.memory is None or self.memory.size < size:
            self.memory = empty((size,), self.dtype)
        return self.memory


def as_array(x):
    """Return any object with ``__cuda_array_interface__`` (of CuPy, of torch) as an Array on the same memory."""
    if isinstance(x, Array):
        return x
    memory.ready()
    its = x.__cuda_array_interface__
    if its.get("stream") not in (None, 1):  # 1 is the stream that our kernels run on
        synchronize()
    address, readonly = its["data"]
    return Array(_phantom(its["shape"], its["typestr"], address, its.get("strides"), readonly), x)


def to_device(x):
    """Copy a NumPy array to the GPU, keeping its shape and, but for gaps, its order of memory."""
    order = _order(x)
    packed = np.asarray(x.transpose(order), order="C")
    fresh = empty(packed.shape, packed.dtype)
    memory.to_device(fresh.address, packed)
    return fresh.transpose(np.argsort(order))


def to_host(x):
    """Copy an array on the GPU to a NumPy array, keeping its shape and, but for gaps, its order of memory."""
    x = as_array(x)
    order = _order(x)
    packed = x.transpose(order)
    if not packed.flags.c_contiguous:
        packed = packed.copy()
    host = np.empty(packed.shape, x.dtype)
    memory.to_host(host, packed.address)
    return host.transpose(np.argsort(order))


@functools.cache
def capability():
    """Return the compute capability of the GPU, as a pair."""
    return memory.capability()


def description():
    """Name the GPU, or say in one sentence why there is none to use."""
    memory.ready()
    if SIMULATED:
        return "the CUDA simulator"
    found = cuda.get_current_device()
    name = found.name.decode() if isinstance(found.name, bytes) else found.name
    total = cuda.current_context().get_memory_info()[1]
    return f"{name}, compute capability {'.'.join(map(str, found.compute_capability))}, {total / 2**30:.0f} GiB"


def synchronize():
    """Wait until the GPU has done all that was asked of it."""
    cuda.synchronize()


def _phantom(shape, typestr, address, strides, readonly=False):
    interface = {"shape": shape, "typestr": typestr, "data": (address, readonly), "strides": strides, "version": 3}
    return np.asarray(SimpleNamespace(__array_interface__=interface))


@functools.cache
def _type(dtype, ndim, c_contiguous):
    return _ArrayType(from_dtype(dtype), ndim, "C" if c_contiguous else "A")


def _order(x):
    """Return x's axes in the order of memory, slowest first."""
    return sorted(range(x.ndim), key=lambda axis: -abs(x.strides[axis]))


def _empty(like, dtype, order):
    axes = _order(like) if order == "K" else range(like.ndim)
    return empty([like.shape[axis] for axis in axes], dtype).transpose(np.argsort(axes))


def multiply(target, by):
    """Multiply `target` in place by a number, or by an array that is repeated along axes where it has one element."""
    there = hasattr(by, "__cuda_array_interface__")
    _spread(target, as_array(by) if there else to_device(np.asarray(by, target.dtype)), True)


def _spread(target, source, times=False):
    """Assign `source`, repeated along axes where it has one element, to `target`, whatever their strides."""
    if target.size:
        front = (np.newaxis,) * (_RANK - target.ndim)
        views = (Array(a[(*front, ...)], None) for a in (target.phantom, np.broadcast_to(source.phantom, target.shape)))
        (_multiply if times else _assign)[blocks(target.size), THREADS](*views)
    return target


@jit.scalar
def _place(i, shape):
    """The six indices of element i of an array."""
    _, B, C, D, E, F = shape
    rest, f = i // F, i % F
    rest, e = rest // E, rest % E
    rest, d = rest // D, rest % D
    rest, c = rest // C, rest % C
    return rest // B, rest % B, c, d, e, f


@kernel
def _assign(target, source):
    for i in range(cuda.grid(1), target.size, cuda.gridsize(1)):
        at = _place(i, target.shape)
        target[at] = source[at]


@kernel
def _multiply(target, source):
    for i in range(cuda.grid(1), target.size, cuda.gridsize(1)):
        at = _place(i, target.shape)
        target[at] *= source[at]


class _Device:
    """Memory of the GPU."""

    @staticmethod
    @functools.cache
    def ready():
        """Say in one sentence why the GPU cannot be used, if it cannot."""
        if not driver.is_available:
            raise RuntimeError("no NVIDIA driver was found; install one, or keep arrays and models on the CPU")
        if not len(cuda.gpus):
            raise RuntimeError("the NVIDIA driver sees no GPU; keep arrays and models on the CPU")
        capability = _Device.capability()
        if capability < _LEAST_CAPABILITY:
            raise RuntimeError(f"the GPU has compute capability {capability[0]}.{capability[1]}; expected 7.5 or newer")
        if not nvvm.is_available():
            raise RuntimeError('no CUDA toolkit was found, whose NVVM compiles kernels; install "nbprop[cuda]"')

    @staticmethod
    def capability():
        return tuple(cuda.get_current_device().compute_capability)

    @staticmethod
    def allocate(size):
        _Device.ready()
        try:
            owner = cuda.current_context().memalloc(size)
        except Exception as e:
            if "OUT_OF_MEMORY" not in str(e):
                raise
            free, total = cuda.current_context().get_memory_info()
            raise MemoryError(f"the GPU has no room for {size} bytes more ({free} of {total} are free); take smaller "
                              "batches, or release() models that rest") from None
        return owner, owner.device_pointer_value

    @staticmethod
    def to_device(address, host, stream=None):
        if not host.nbytes:
            return
        if stream is None:
            driver.cuMemcpyHtoD(address, host.ctypes.data, host.nbytes)
        else:
            driver.cuMemcpyHtoDAsync(address, host.ctypes.data, host.nbytes, int(stream.handle))

    @staticmethod
    def copy(target, source, size):
        """Copy inside the GPU's memory, without waiting."""
        driver.cuMemcpyDtoDAsync(target, source, size, 0)

    @staticmethod
    def to_host(host, address):
        if host.nbytes:
            driver.cuMemcpyDtoH(host.ctypes.data, address, host.nbytes)


class Host:
    """Memory of the host in the GPU's place: for the simulator, and for tests that only compile."""

    @staticmethod
    def ready():
        """Nothing is missing."""

    @staticmethod
    def capability():
        return 9, 0

    @staticmethod
    def allocate(size):
        owner = np.empty(size + 16, np.uint8)
        return owner, owner.ctypes.data + -owner.ctypes.data % 16

    @staticmethod
    def to_device(address, host, stream=None):
        ctypes.memmove(address, host.ctypes.data, host.nbytes)

    @staticmethod
    def copy(target, source, size):
        ctypes.memmove(target, source, size)

    @staticmethod
    def to_host(host, address):
        ctypes.memmove(host.ctypes.data, address, host.nbytes)


memory = Host if SIMULATED else _Device
