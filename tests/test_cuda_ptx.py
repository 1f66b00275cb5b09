"""Every kernel of the same cases compiled for three generations of GPUs, and assembled; no GPU is needed.

Launches are recorded instead of made: each new kernel with its argument types becomes PTX, and what ptxas says
of its registers ends in the summary of the test run.
"""

import functools
import importlib
import importlib.util
import pathlib
import re
import shutil
import subprocess
from types import SimpleNamespace

import numpy as np
import pytest
from cuda_cases import arguments_of, every_case
from device import COMPILER

from nbprop import nn, precision
from nbprop.shapes import Linear

pytestmark = COMPILER
CAPABILITIES = (7, 5), (8, 0), (9, 0)
CASES = [c for c in every_case() if not c[1].reads]


def ptxas():
    """Find the assembler, in the wheel of nvcc or on the path."""
    spec = importlib.util.find_spec("nvidia")
    folders = [pathlib.Path(f) for f in spec.submodule_search_locations] if spec else []
    found = [path for folder in folders for path in sorted(folder.glob("*/bin/ptxas"))]
    return str(found[0]) if found else shutil.which("ptxas")


@pytest.fixture
def launches(monkeypatch):
    """Record (kernel, argument types) instead of launching, and let host memory stand for the GPU's."""
    gpu = importlib.import_module("nbprop.gpu")
    from numba.cuda import dispatcher
    from numba.cuda.typing.typeof import typeof

    recorded = []

    def configure(kernel, grid, block, *_):
        assert min(np.atleast_1d(grid)) > 0 and 0 < np.prod(block) <= 1024, (kernel.py_func.__name__, grid, block)
        return lambda *arguments: recorded.append((kernel, tuple(map(typeof, arguments))))

    monkeypatch.setattr(dispatcher.CUDADispatcher, "configure", configure)
    monkeypatch.setattr(dispatcher, "get_current_device", lambda: SimpleNamespace(compute_capability=CAPABILITIES[-1]))
    monkeypatch.setattr(gpu, "memory", gpu.Host)
    monkeypatch.setattr(gpu, "synchronize", lambda: None)
    monkeypatch.setattr(gpu, "capability", lambda: CAPABILITIES[-1])
    return recorded


SEEN = {}  # (kernel, types) and the capabilities that they were compiled for


@pytest.mark.parametrize(("label", "case", "dtype"), CASES, ids=[c[0] for c in CASES])
def test_compiles(label, case, dtype, launches, record_property, tmp_path, monkeypatch):
    monkeypatch.setitem(precision._allowed, case.products, True)
    gpu = importlib.import_module("nbprop.gpu")
    cuda = importlib.import_module(f"nbprop.ops.{case.op}.cuda")
    module = importlib.import_module(f"nbprop.ops.{case.op}") if case.is_public else cuda
    there = [gpu.to_device(v) if isinstance(v, np.ndarray) else v for v in arguments_of(case, dtype, cuda)]
    getattr(module, case.name)(*there, **case.named)
    assert launches, f"{case.name} launched no kernel"
    wanted = capabilities(case.products)
    for kernel, types in launches:
        if SEEN.get((kernel, types), set()).issuperset(wanted):
            continue
        SEEN[kernel, types] = set(wanted)
        *_, code = compiled(kernel, types, *wanted)
        if ptxas():
            used = assembled(code, tmp_path)
            record_property("ptxas", f"{case.op + '.' + kernel.py_func.__name__:40} {dtype.name}  {used['text']}")
            assert case.spills or used["spills"] == 0, used["text"]


@pytest.mark.parametrize(("products", "instructions"), [
    ("float32", ("ld.global.v4.f32", "ld.shared.v4.f32", "st.global.v4.f32", "fma.rn.f32")),
    ("tf32", ("ld.global.v4.f32", "cvt.rna.tf32.f32", "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32")),
    ("bf16", ("ld.global.v4.f32", "cvt.rn.bf16x2.f32", "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32")),
])
def test_dense_kernels_move_sixteen_bytes(products, instructions, launches, monkeypatch):
    monkeypatch.setitem(precision._allowed, products, True)
    gpu = importlib.import_module("nbprop.gpu")
    linear = importlib.import_module("nbprop.ops.linear.cuda")
    g = Linear(8192, 128, 128)
    x, y, w = (gpu.empty(shape, np.float32) for shape in ((g.N, g.K), (g.N, g.O), (g.K, g.O)))
    work, b = linear.workspace(g, np.float32), gpu.empty((g.O,), np.float32)
    linear.forward(x, w.T, b, y, g, True, work)
    linear.backward_input(y, w.T, None, x, g, work)
    linear.backward_weight(y, x, w.T, b, g, work)
    dense = [launch for launch in launches if launch[0].py_func.__name__ != "_sum_parts"]
    assert len(dense) == 3
    for kernel, types in dense:
        *_, code = compiled(kernel, types, *capabilities(products))
        for instruction in instructions:
            assert instruction in code, f"{kernel.py_func.__name__} has no {instruction}"


def test_formulas_are_compiled_without_fast_math(launches):
    """x^p as 2^(p log2 x) is no number for a negative x, see jit.scalar."""
    gpu = importlib.import_module("nbprop.gpu")
    nn.Power(2.0).forward(gpu.empty((64,), np.float32))
    (kernel, types), = launches
    *_, code = compiled(kernel, types, *CAPABILITIES)
    assert "lg2.approx" not in code


def capabilities(products):
    """Return the generations that kernels of these products are compiled for: the first has no such tensor cores."""
    return CAPABILITIES[products != "float32":]


@functools.cache  # the tests of instructions look at kernels of the cases
def compiled(kernel, types, *capabilities):
    """Return the PTX for each capability; what `cuda.compile_ptx` does, but Python's part, most of it, is done once."""
    from numba.cuda import compiler

    library, _ = compiler._compile_pyfunc_with_fixup(
        kernel.py_func, types, device=False, abi="numba", cc=capabilities[0],
        launch_bounds=kernel.targetoptions.get("launch_bounds"))
    return [library.get_asm_str(cc=capability) for capability in capabilities]


def assembled(code, folder):
    """Assemble for sm_90 and return what the assembler says of registers, shared memory and spills."""
    source = folder / "kernel.ptx"
    source.write_text(code)
    done = subprocess.run([ptxas(), "-arch=sm_90", "-v", "-o", str(folder / "kernel.cubin"), str(source)],
                          capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    registers = max(map(int, re.findall(r"Used (\d+) registers", done.stderr)))
    spills = sum(map(int, re.findall(r"(\d+) bytes spill", done.stderr)))
    stack = max(map(int, re.findall(r"(\d+) bytes stack frame", done.stderr)), default=0)
    shared = max(map(int, re.findall(r"(\d+) bytes smem", done.stderr)), default=0)
    text = f"{registers:3} registers, {spills} bytes spilled, {stack} of stack, {shared} of shared memory"
    return {"spills": spills, "text": text}
