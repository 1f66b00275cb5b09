"""What a container allows, which neither Python nor Numba looks up: cgroup version 2, then 1."""

import math
import pathlib
from typing import NamedTuple

__all__ = ["Limits", "add_device", "limits", "use_device", "use_threads"]

_UNLIMITED = 1 << 60  # version 1 writes "no limit" as a number near 2^63


class Limits(NamedTuple):
    """CPUs (may be a fraction) and bytes of memory; None where there is no limit."""

    cpus: float | None
    memory: int | None


def limits(root="/sys/fs/cgroup", membership="/proc/self/cgroup"):
    """Return the tightest limits of this process's control group and of those around it."""
    cpus, memory = [], []
    for folder in _folders(pathlib.Path(root), pathlib.Path(membership)):
        cpus += [_ratio(*_words(folder / "cpu.max")), _ratio(*_words(folder / "cpu.cfs_quota_us"),
                                                             *_words(folder / "cpu.cfs_period_us"))]
        memory += [_number(*_words(folder / name)) for name in ("memory.max", "memory.limit_in_bytes")]
    return Limits(min((c for c in cpus if c), default=None),
                  min((int(m) for m in memory if m and m < _UNLIMITED), default=None))  # fmt: skip


def use_threads(number=None):
    """Let Numba use `number` threads, by default as many as it started with or as the container gives CPUs.

    Raises
    ------
    ValueError
        If it is more than Numba started with.
    """
    import numba

    most = numba.config.NUMBA_NUM_THREADS
    if number is None:
        number = min(most, max(1, math.ceil(limits().cpus or most)))
    elif not 1 <= number <= most:
        raise ValueError(f"--threads is {number}; expected 1 to {most} (NUMBA_NUM_THREADS or the number of "
                         "CPUs)")
    numba.set_num_threads(number)


def add_device(parser):
    """Add the argument --device."""
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu",
                        help="cuda: an NVIDIA GPU (pip install 'nbprop[cuda]'); default: cpu")


def use_device(name):
    """Return `name`, or say in one sentence why there is no such device.

    Raises
    ------
    ValueError
        If it is "cuda" and a GPU, its driver or numba-cuda is missing.
    """
    from nbprop import layout

    try:
        layout.mover(name)
    except (ImportError, RuntimeError) as e:
        raise ValueError(f"--device is {name}, but {e}") from None
    return name


def _folders(root, membership):
    """Yield the group's folder and all above it, under each controller's root."""
    for line in _lines(membership) or ["0::/"]:
        _, controllers, path = line.split(":", 2)
        top = root / controllers if controllers else root
        here = top / path.strip("/")
        yield from (folder for folder in (here, *here.parents) if folder == top or top in folder.parents)


def _lines(path):
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def _words(path):
    return (_lines(path) or [""])[0].split()


def _number(text="max", *_):
    return float(text) if text.isdigit() else None


def _ratio(quota="max", period="100000", *_):
    """CPUs from a quota and a period of microseconds; version 1 writes -1, version 2 "max" for none."""
    return float(quota) / float(period) if quota.isdigit() and float(period) else None
