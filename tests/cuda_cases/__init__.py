"""The calls that are compared between the GPU and the CPU: one module per op, one line per case.

    CASES = [
        twin("add", "add_forward", a(2, 3, 5, 7), a(2, 3, 5, 7), a(2, 3, 5, 7), True),
        public("add", "add_forward", a(4, 5), a(4, 5)),
    ]

`twin` calls the function of that name in each twin of an op, and compares every array argument afterwards; `public`
calls the function of ``nbprop.ops.<op>`` on arrays here and there, and compares what it returns.
"""

import importlib
import pathlib
from types import SimpleNamespace

import numpy as np
from oracle import normal

from nbprop import layout

# Sums down columns cut as in a larger array: several strips, and several chunks of rows.
COLUMNS = {"cuda_columns._STRIP": 2, "cuda_columns._ROWS": 1, "cuda_columns._SIDE": 2}


class Given:
    """An array argument, made anew for each dtype and run by `make(dtype, seed)`."""

    def __init__(self, make):
        self.make = make


def a(*shape, dtype=None):
    """An array of random numbers of the case's dtype (or `dtype`), channels-last if it has four axes."""
    return Given(lambda case_dtype, seed: normal(shape, dtype or case_dtype, seed))


def weights(*shape):
    """Weights (O, C, KH, KW) with memory KH, KW, C, O."""
    return Given(lambda dtype, seed: layout.khwio_last(normal(shape, dtype, seed)))


def given(make):
    """An array of your own: make(dtype)."""
    return Given(lambda dtype, seed: make(dtype))


def wide(*shape):
    """An array as `a` makes it, of float64 in every case."""
    return a(*shape, dtype=np.float64)


def positive(*shape):
    """Numbers of float64 from 1 on."""
    return given(lambda dtype: np.abs(wide(*shape).make(dtype, 7)) + 1)


def shifted(*shape):
    """Random numbers about 50."""
    return given(lambda dtype: a(*shape).make(dtype, 3) + dtype.type(50))


class Work:
    """Stands for twin.workspace(*arguments, dtype); not compared."""

    def __init__(self, *arguments):
        self.arguments = arguments


def twin(op, name, *arguments, **options):
    """A case that calls one function of an op's twins."""
    return _case(op, name, arguments, {}, False, **options)


def public(op, name, *arguments, named=None, **options):
    """A case that calls a public function of ``nbprop.ops.<op>``; `named` holds its keyword arguments."""
    return _case(op, name, arguments, named or {}, True, **options)


def _case(op, name, arguments, named, is_public, big=False, constants=None, dtypes=(np.float32, np.float64),
          tolerance=None, spills=False, reads=False, products="float32"):
    """Describe a case.

    big        too large for the simulator: compiled, and run on a GPU against the cpu twin
    constants  module-level names of the op's cuda.py to set in the simulator, such as {"_TILE": 4}, or of
               a module that ops share: {"cuda_tile.TILES": ...}
    tolerance  relative l2 distance that is allowed, by dtype name; else 1e-5 for float32 and 1e-12 for float64
    products   "tf32" or "bf16": with tensor cores allowed, in float32 only, within 1e-3 or 1e-2
    spills     True where a kernel may spill registers
    reads      True where the call reads what its kernels computed: not compiled without a GPU
    """
    if products != "float32":
        dtypes, tolerance = (np.float32,), {"float32": {"tf32": 1e-3, "bf16": 1e-2}[products]}
    return SimpleNamespace(op=op, name=name, arguments=arguments, named=named, is_public=is_public, big=big,
                           constants=constants or {}, dtypes=dtypes, tolerance=tolerance or {}, spills=spills,
                           reads=reads, products=products)


def arguments_of(case, dtype, module):
    """Make a case's arguments, on the host; a workspace is that of `module`."""
    made = [v.make(dtype, i) if isinstance(v, Given) else v for i, v in enumerate(case.arguments)]
    return [module.workspace(*v.arguments, np.dtype(dtype)) if isinstance(v, Work) else v for v in made]


def every_case():
    """Return (label, case, dtype) of all modules."""
    found = []
    for path in sorted(pathlib.Path(__file__).parent.glob("[a-z]*.py")):
        for i, case in enumerate(importlib.import_module(f"cuda_cases.{path.stem}").CASES):
            found += [(f"{path.stem}-{i}-{case.name}-{np.dtype(t).name}", case, np.dtype(t)) for t in case.dtypes]
    return found
