"""The only place that spells Numba's options: four decorators, their cache, and the thread count.

    reference   plain loops that read like the derivation; strict IEEE arithmetic, serial
    kernel      a serial loop nest; the unit that is compiled and cached
    driver      a kernel that does one of several tasks; who calls it gets all of them done, on all threads
    scalar      a scalar formula, inlined into the kernels that name it

All four are lazy (nothing compiles at import) and cached on disk, in a folder named by our version and a hash
of our sources: Numba checks only the file of the function it loads, so a kernel would go on running an edited
helper's old code.
"""

import contextlib
import functools
import hashlib
import os
import pathlib
import stat
import tempfile
import warnings

import numba
from numba import njit, prange, types
from numba.core import config
from numba.core.caching import FunctionCache
from numba.core.dispatcher import Dispatcher
from numba.core.serialize import dumps
from numba.misc.appdirs import AppDirs
from numba.np.ufunc import parallel

from nbprop import distribute, tape

__all__ = ["Driver", "cache_folder", "driver", "kernel", "reference", "replay", "scalar", "threads"]

# No flag here lets LLVM assume that NaN or infinity do not occur: a diverged run must show itself.
_FLAGS = {"nsz", "arcp", "contract", "afn"}
# numpy's error model: x / 0 is inf or nan, with no branch that would stop vectorisation. Nobody takes our functions'
# addresses in C, and a wrapper for that is to be compiled too.
_COMMON = {"error_model": "numpy", "nogil": True, "no_cfunc_wrapper": True}


def threads() -> int:
    """Return the number of threads that drivers split their work for (``numba.set_num_threads`` sets it)."""
    return _thread_count()()


@functools.cache
def _thread_count():
    """Return the function that tells the number of threads: what `numba.get_num_threads` calls, once they run.

    Numba first takes two locks, to see whether they do: 2.1 us of 2.3 (Zen 3), and every layer asks.
    """
    numba.get_num_threads()
    return getattr(parallel, "_get_num_threads", numba.get_num_threads)


def reference(function):
    """Compile plain loops with strict arithmetic, for each dtype once: whatever the order of an array's axes in memory.

    Numba would compile them for each order of each array; an axis of one element makes an order out of another.
    """
    loops = _cached(_lazy(function))
    compiled = loops.compile
    loops.compile = lambda arguments: compiled(tuple(map(_any_order, arguments)))
    return loops


def _any_order(numba_type):
    several = isinstance(numba_type, types.Array) and numba_type.ndim > 1
    return numba_type.copy(layout="A") if several else numba_type


def kernel(function=None, *, reassoc=False, allocates=False, from_python=True):
    """Compile a serial loop nest; `reassoc` lets a sum be reordered into vector lanes.

    It allocates nothing and returns no array, so arrays' references need no counting: Winograd's transform of a tile,
    handed to a function of its own, took 52 ns with it and takes 23 without (Zen 5). Only what users wrote may
    allocate: kernels that call it say so. What Python never calls needs no wrapper to compile.
    """
    if function is None:
        return functools.partial(kernel, reassoc=reassoc, allocates=allocates, from_python=from_python)
    flags = _FLAGS | {"reassoc"} if reassoc else _FLAGS
    return _cached(_lazy(function, fastmath=flags, _nrt=allocates, no_cpython_wrapper=not from_python))


def driver(function=None, *, allocates=False):
    """Compile a kernel that takes `task, tasks` last and does that task alone; it is called without `task`.

    Tasks run side by side, in any order, on any thread: each writes what no other reads (a queue aside, see
    ops/queue.py). Whoever calls says how many: one where the work is small, as then no thread is woken, and no more
    than have scratch memory.
    """
    if function is None:
        return functools.partial(driver, allocates=allocates)
    # Python calls the launcher alone: a wrapper of the task was a twentieth of what a small one takes to compile.
    task = _cached(_lazy(function, fastmath=_FLAGS, _nrt=allocates, no_cpython_wrapper=True))
    launch = distribute.launcher(task, _run_tasks)
    for name in ("__module__", "__name__", "__doc__"):
        setattr(launch, name, getattr(function, name))
    launch.__qualname__ = f"{function.__module__}.{function.__qualname__}"  # an index on disk of its own
    return Driver(_cached(njit(_nrt=False, **_COMMON)(launch), functools.partial(_LauncherCache, task)))


class Driver:
    """What `driver` makes of a function: a call, without `task`, has all tasks done, and is noted if a tape is on."""

    def __init__(self, launch):
        self._launch = launch
        functools.update_wrapper(self, launch.py_func, ("__module__", "__name__", "__doc__"), ())

    def __call__(self, *arguments):
        tape.flush()
        if tape.own.tape is None:
            self._launch(0, *arguments)
        else:
            tape.own.tape.launch(self._launch, arguments)


def scalar(function):
    """Compile a scalar formula for use inside kernels; always inlined, as a call would end vectorisation."""
    formula = _lazy(function, fastmath=_FLAGS, forceinline=True)
    # What numba-cuda compiles it with (and a process that unpickles it): there any flag is all of them, and (-1)^2 by
    # 2^(2 log2(-1)) not a number.
    formula.targetoptions = {name: value for name, value in formula.targetoptions.items() if name != "fastmath"}
    return formula


def cache_folder() -> pathlib.Path:
    """Return the folder that holds the compiled kernels of this version of the sources."""
    return _FOLDER


def _lazy(function, **options):
    """Make the dispatcher of a function, which compiles it when it is called.

    Its name tells what it closes over, as machine code from the cache is linked by names: Numba's own tell the products
    of a factory apart by a count, at which another process was elsewhere in its order. Numbers that a caller spells out
    are of their type; Numba would compile the function for each anew.
    """
    cells = _cells(function)
    if cells:
        function.__qualname__ += f"_{hashlib.sha256(repr(cells).encode()).hexdigest()[:12]}"
    dispatcher = njit(**options, **_COMMON)(function)
    find = dispatcher.get_call_template
    dispatcher.get_call_template = lambda args, named: find(
        [types.unliteral(each) for each in args], {name: types.unliteral(each) for name, each in named.items()})
    return dispatcher


class _Cache(FunctionCache):
    """Numba's cache, except that an entry which cannot be read is dropped and compiled again.

    A kernel made in a factory is found again by the names of the functions it closes over (Numba would pickle
    them, sets of flags in random order and all). One made from a function of another package, whose edits our
    hash of sources does not see, is not cached.
    """

    def __init__(self, py_func):
        super().__init__(py_func)
        self.cells = _cells(py_func)

    def _index_key(self, sig, codegen):
        return sig, codegen.magic_tuple(), self.cells

    def load_overload(self, sig, target_context):
        if self.cells is None:
            return None
        try:
            return super().load_overload(sig, target_context)
        except Exception as e:  # a cut pickle raises almost anything
            name = self._py_func.__qualname__
            warnings.warn(f"nbprop: recompiling {name}: its cache entry is unreadable ({e!r})", stacklevel=2)
            with _one_writer():
                self.flush()
            return None

    def save_overload(self, sig, data):
        if self.cells is None:
            return
        try:
            with _one_writer():
                super().save_overload(sig, data)
        except OSError as e:  # a full disk costs speed, not the run
            warnings.warn(f"nbprop: {self._py_func.__qualname__} was compiled but not cached: {e}", stacklevel=2)


class _LauncherCache(_Cache):
    """The cache of a launcher, which holds no kernel: that is looked for in its own."""

    def __init__(self, task, launch):
        FunctionCache.__init__(self, launch)
        self._task, within = task, task._cache.cells
        self.cells = None if within is None else (launch.__module__, launch.__qualname__, within)

    def load_overload(self, sig, target_context):
        distribute.prepare(self._task, _run_tasks, sig[1])
        return super().load_overload(sig, target_context)


@contextlib.contextmanager
def _one_writer():
    """Let one process at a time write to the cache: Numba reads an index, adds an entry and writes it back.

    Two that did so at once would lose an entry, or find the other's code under their own signature.
    """
    with open(_FOLDER / "lock", "a") as file:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _cells(function):
    """Identify what a function closes over, alike in every process; None if not all of it is ours."""
    found = []
    for cell in function.__closure__ or ():
        value = cell.cell_contents
        if isinstance(value, Dispatcher):
            inner = value.py_func
            within = _cells(inner)
            if within is None or not inner.__module__.startswith(f"{__package__}."):
                return None
            found.append((inner.__module__, inner.__qualname__, inner.__code__.co_code, within))
        else:
            found.append(hashlib.sha256(dumps(value)).hexdigest())
    return tuple(found)


def _cached(dispatcher, cache=_Cache):
    """Give a dispatcher our cache, in our folder, whatever NUMBA_CACHE_DIR says for other people's code."""
    before = config.CACHE_DIR
    config.CACHE_DIR = str(_FOLDER)
    try:
        dispatcher._cache = cache(dispatcher.py_func)
    finally:
        config.CACHE_DIR = before
    return dispatcher


def _hash_of_sources() -> str:
    """Hash every source file of the package: any edit makes a new cache folder."""
    digest = hashlib.sha256()
    for path in sorted(pathlib.Path(__file__).parent.rglob("*.py")):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def _writable_folder() -> pathlib.Path:
    """Pick the user's cache folder, or a private temporary one where the home is read-only."""
    base = config.CACHE_DIR or AppDirs("nbprop", appauthor=False).user_cache_dir
    for root in (base, os.path.join(tempfile.gettempdir(), f"nbprop-{getattr(os, 'getuid', lambda: '')()}")):
        folder = pathlib.Path(root, f"kernels-{_SOURCES}")
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError:
            continue
        if _is_ours(folder):
            return folder
    return pathlib.Path(tempfile.mkdtemp(prefix="nbprop-"))


def _is_ours(folder: pathlib.Path) -> bool:
    """Say whether only we can write there: cache entries are pickles, which run code when they load."""
    if os.name == "nt":
        return True
    status = folder.stat()
    return status.st_uid == os.getuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


_SOURCES = _hash_of_sources()
_FOLDER = _writable_folder()


@_cached
@njit(parallel=True, _nrt=False, **_COMMON)
def _run_tasks(address, data, tasks):
    """The one parallel loop of the library, see `distribute`."""
    for task in prange(0, tasks):  # with the 0 left out, Numba compiles the body twice: for signed and unsigned tasks
        distribute.call(address, data, task)


@_cached
@njit(_nrt=False, **_COMMON)
def replay(spans, count):
    """Launch again what tapes tell, one after another: `count` numbers at an address say where each begins and ends."""
    for i in range(0, count, 2):
        at, end = distribute.word(spans + 8 * i), distribute.word(spans + 8 * i + 8)
        while at < end:
            each, tasks, data = distribute.word(at + 8), distribute.word(at + 16), at + distribute.HEADER
            if tasks == 1:
                distribute.call(each, data, 0)
            else:
                _run_tasks(each, data, tasks)
            if distribute.raised(at + distribute.word(at + 24)):
                raise RuntimeError(distribute.RAISED)
            at += distribute.word(at)
