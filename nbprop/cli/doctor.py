"""nbprop doctor: one line on each thing that decides whether and how fast we run, with advice."""

import importlib.metadata
import importlib.util
import os
import platform
import sys

import numpy as np

__all__ = ["add_parser"]


def add_parser(commands):
    """Add the command."""
    parser = commands.add_parser("doctor", help="look at this machine and say what would make it faster")
    parser.set_defaults(run=run)


def run(args):
    """Print the lines."""
    for look in (_python, _numba, _vectors, _threads, _layer, _container, _cache, _gpu):
        print(f"{look.__name__[1:]:<10} {look()}", flush=True)


def _python():
    return f"{platform.python_version()} ({sys.executable}) on {platform.system()} {platform.machine()}: fine"


def _numba():
    parts = "numba", "llvmlite", "numpy"
    return ", ".join(f"{part} {importlib.metadata.version(part)}" for part in parts) + ": fine"


def _vectors():
    import numba

    from nbprop.ops import simd

    length = simd.lanes(np.dtype(np.float32))
    cpu = numba.config.CPU_NAME or "this CPU"
    advice = "fine" if length >= 8 else "narrow; look whether NUMBA_CPU_NAME holds it back"
    return f"{length} float32 values per register on {cpu}: {advice}"


def _threads():
    import numba

    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    threads = numba.config.NUMBA_NUM_THREADS
    advice = "fine"
    if threads < cpus:
        advice = "unset NUMBA_NUM_THREADS to use all"
    elif threads > cpus:
        advice = f"set NUMBA_NUM_THREADS={cpus}, more will wait for each other"
    return f"{threads} on {cpus} CPUs: {advice}"


def _layer():
    """Numba takes the first of these that it can load; looking costs less than starting one."""
    import numba

    advice = {"tbb": "fine", "omp": "fine; do not fork after the first step",
              "workqueue": "one Python thread at a time; pip install tbb lifts that"}  # fmt: skip
    modules = {"tbb": "tbbpool", "omp": "omppool", "workqueue": "workqueue"}
    wanted = numba.config.THREADING_LAYER
    for name in modules if wanted not in modules else [wanted]:
        try:
            importlib.import_module(f"numba.np.ufunc.{modules[name]}")
        except ImportError:
            continue
        return f"{name}: {advice[name]}"
    return f"NUMBA_THREADING_LAYER={wanted} does not load: unset it, or install that library"


def _container():
    import numba

    from nbprop.cli.limits import limits

    cpus, memory = limits()
    told = [f"{cpus:g} CPUs" if cpus else "no CPU limit",
            f"{memory / 2**30:.1f} GiB of memory" if memory else "no memory limit"]  # fmt: skip
    advice = "fine"
    if cpus and max(1, round(cpus)) < numba.config.NUMBA_NUM_THREADS:
        advice = f"set NUMBA_NUM_THREADS={max(1, round(cpus))}, Numba does not see the limit"
    elif memory and memory < 2**30:
        advice = "compiling may need more than this"
    return f"{', '.join(told)}: {advice}"


def _cache():
    from nbprop import jit

    folder = jit.cache_folder()
    size, count = _size(folder)
    others = [_size(other)[0] for other in folder.parent.glob("kernels-*") if other != folder]
    advice = "filled by the first run" if not count else "fine"
    if sum(others) > 200 << 20:
        advice = f"delete its {len(others)} neighbours of other versions, {sum(others) / 2**20:.0f} MiB"
    return f"{folder} ({count} files, {size / 2**20:.1f} MiB): {advice}"


def _size(folder):
    files = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return sum(files), len(files)


def _gpu():
    """Look for the driver's own files first: where there are none, no CUDA package is loaded."""
    import ctypes.util

    driver = os.path.exists("/proc/driver/nvidia/version") or ctypes.util.find_library("nvcuda")
    if not driver:
        return "no NVIDIA driver found: training runs on the CPU"
    if importlib.util.find_spec("numba_cuda") is None:
        return "an NVIDIA driver, but no numba-cuda: pip install 'nbprop[cuda]' to use it"
    from nbprop import layout

    try:
        return f"{layout.gpu().description()}: fine, for --device cuda"
    except (ImportError, RuntimeError) as e:
        return f"an NVIDIA driver, but {e}"
