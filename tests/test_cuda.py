"""Every op's third twin against the first: in the simulator (NUMBA_ENABLE_CUDASIM=1), or on a GPU (-m gpu)."""

import importlib
import inspect
import pathlib

import numpy as np
import pytest
from cuda_cases import arguments_of, every_case
from device import KERNELS, SIMULATED, here
from oracle import assert_close, memory_orders, normal

from nbprop import backend, layout, ops, precision, shapes
from nbprop.ops.add import add_forward
from nbprop.ops.softmax import softmax_forward

pytestmark = KERNELS
# The simulator runs each thread of the GPU as one of Python: small arrays, and of one dtype.
CASES = [c for c in every_case() if not SIMULATED or (c[2] == c[1].dtypes[0] and not c[1].big)]
BOUND = {"float32": 1e-5, "float64": 1e-12}


@pytest.mark.parametrize(("label", "case", "dtype"), CASES, ids=[c[0] for c in CASES])
def test_equals_the_cpu(label, case, dtype, gpu, monkeypatch):
    module = importlib.import_module(f"nbprop.ops.{case.op}")
    cuda = importlib.import_module(f"nbprop.ops.{case.op}.cuda")
    oracle = importlib.import_module(f"nbprop.ops.{case.op}.{'cpu' if case.big else 'reference'}")
    for name, value in (case.constants if SIMULATED else {}).items():
        shared, _, name = name.rpartition(".")
        monkeypatch.setattr(importlib.import_module(f"nbprop.ops.{shared}") if shared else cuda, name, value)
    monkeypatch.setitem(precision._allowed, case.products, True)
    there = [gpu.to_device(v) if isinstance(v, np.ndarray) else v for v in arguments_of(case, dtype, cuda)]
    arguments = arguments_of(case, dtype, oracle)
    if case.is_public:
        with backend.using(oracle.__name__.rpartition(".")[2]):
            expected = getattr(module, case.name)(*arguments, **case.named)
        ours, expected = here(getattr(module, case.name)(*there, **case.named)), here(expected)
    else:
        getattr(oracle, case.name)(*arguments)
        getattr(cuda, case.name)(*there)
        is_array = [isinstance(v, np.ndarray) and isinstance(t, gpu.Array) for v, t in zip(arguments, there)]
        ours = here([t for t, yes in zip(there, is_array) if yes])
        expected = [v for v, yes in zip(arguments, is_array) if yes]
    assert len(ours) == len(expected) > 0
    for got, wanted in zip(ours, expected):
        compare(got, wanted, case.tolerance.get(dtype.name, BOUND[dtype.name]))


def compare(got, wanted, bound):
    if not isinstance(wanted, np.ndarray):
        assert np.isclose(got, wanted, rtol=bound), (got, wanted)
        return
    assert got.dtype == wanted.dtype
    if got.ndim == 4:
        assert layout.nhwc(got).flags.c_contiguous == layout.nhwc(wanted).flags.c_contiguous
    if np.issubdtype(wanted.dtype, np.floating):
        assert_close(got, wanted, bound)
    else:
        np.testing.assert_array_equal(got, wanted)


def test_copies_keep_shape_and_order(gpu):
    x = normal((2, 3, 4, 5), np.float32)
    for _, values in memory_orders(x):
        there = gpu.to_device(values)
        np.testing.assert_array_equal(gpu.to_host(there), x)
        np.testing.assert_array_equal(gpu.to_host(layout.channels_last(there)), x)
        assert layout.nhwc(layout.channels_last(there)).flags.c_contiguous
    assert gpu.to_host(gpu.to_device(x)).strides == x.strides


def test_views_and_assignment(gpu):
    x = normal((2, 3, 4, 5), np.float64)
    there = gpu.to_device(x)
    np.testing.assert_array_equal(gpu.to_host(there[1, :, ::2]), x[1, :, ::2])
    np.testing.assert_array_equal(gpu.to_host(there.astype(np.float32)), x.astype(np.float32))
    there[:, 1] = 7
    there[0] = normal((3, 4, 5), np.float64, 1)
    x[:, 1] = 7
    x[0] = normal((3, 4, 5), np.float64, 1)
    np.testing.assert_array_equal(gpu.to_host(there), x)
    assert gpu.to_host(layout.zeros((2, 1, 2, 3), np.int32, there)).sum() == 0
    with layout.beside(there):
        assert isinstance(layout.empty((3,), np.float32), gpu.Array)
    assert isinstance(layout.empty((3,), np.float32), np.ndarray)


def test_the_host_never_reads_an_array_of_the_gpu(gpu):
    there = gpu.to_device(normal((3, 4), np.float32))
    for read in (np.asarray, np.sum, lambda v: v + np.ones(4), lambda v: np.ones(4) + v):
        with pytest.raises(TypeError):
            read(there)
    with pytest.raises(TypeError, match="index is"):
        there[np.array([0, 1])]


def test_arrays_of_other_libraries_are_taken_without_a_copy(gpu):
    class Foreign:
        def __init__(self, array):
            self.array, self.__cuda_array_interface__ = array, array.__cuda_array_interface__

    there = gpu.to_device(normal((2, 5), np.float32))
    assert gpu.as_array(Foreign(there)).address == there.address
    np.testing.assert_array_equal(gpu.to_host(softmax_forward(Foreign(there))), gpu.to_host(softmax_forward(there)))


def test_mixed_places_are_refused(gpu):
    x = normal((2, 5), np.float32)
    with pytest.raises(ValueError, match="b came on the GPU but a on the CPU"):
        add_forward(x, gpu.to_device(x))
    shapes.check_same_place(x=x, w=x[:1], b=None)


def test_every_cuda_twin_has_cases():
    covered = {(case.op, case.name) for _, case, _ in every_case()}
    for path in sorted(pathlib.Path(ops.__file__).parent.glob("*/cpu.py")):
        op = path.parent.name
        assert path.with_name("cuda.py").exists(), f"ops/{op} has no twin on the GPU"
        module = importlib.import_module(f"nbprop.ops.{op}.cuda")
        for name, value in vars(module).items():
            if inspect.isfunction(value) and value.__module__ == module.__name__ and not name.startswith("_"):
                assert (op, name) in covered or name == "workspace", f"{op}.{name} has no case in tests/cuda_cases"
