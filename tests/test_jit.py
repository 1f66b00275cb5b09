"""The kernel cache: keyed by the sources, shared by processes, repaired when cut, private, and never in the way."""

import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest

from nbprop import jit

ROOT = pathlib.Path(__file__).parents[1]

# A training step that calls kernels of every kind: factories, closures over scalars, drivers, micro-kernels.
STEP = """
import sys, warnings
import numpy as np
from numba.core import event
import nbprop
from nbprop import jit, nn, optim
loss = nn.CrossEntropyLoss()
model = nn.Sequential(nn.Linear(45, 9), nn.Tanh(), nn.Linear(9, 7), nn.ReLU())
optimizer = optim.SGD(model.parameters(), 0.1)
x, target = np.random.default_rng(0).standard_normal((5, 45), np.float32), np.arange(5)
with warnings.catch_warnings(record=True) as warned, event.install_recorder("numba:compile") as compiled:
    warnings.simplefilter("always")
    value = loss.forward(model.forward(x), target)
    model.backward(loss.backward())
    optimizer.step()
    print(sum(e.is_start for _, e in compiled.buffer))
print(float(value).hex(), float(model.grad.sum()).hex())
print(jit.cache_folder())
print(*[str(w.message).split("(")[0] for w in warned], sep="\\n")
"""


def python(code, cwd=ROOT, **environment):
    """Run `code` in a process of its own; return the lines it prints."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA_CACHE")}
    done = subprocess.run([sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, timeout=300,
                          env={**kept, **{name: str(value) for name, value in environment.items()}})  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def cached(tmp_path_factory):
    """A cache folder that one process has filled, and what that process printed."""
    folder = tmp_path_factory.mktemp("cache")
    return folder, python(STEP, NUMBA_CACHE_DIR=folder, PYTHONHASHSEED=1)


def test_a_second_process_compiles_nothing(cached):
    folder, (compiled, *printed) = cached
    assert int(compiled) > 10
    again = python(STEP, NUMBA_CACHE_DIR=folder, PYTHONHASHSEED=2)
    assert again == ["0", *printed]
    assert pathlib.Path(again[2]).parent == folder


@pytest.mark.parametrize("entries", ["cpu.*.nbc", "cpu.*.nbi", "distribute.*.nbc", "jit.*.nbc"])
def test_a_cut_entry_is_compiled_again(cached, tmp_path, entries):
    """Of kernels, of their launchers, of the loop."""
    folder, (_, values, *_) = cached
    shutil.copytree(folder, tmp_path / "copy")
    for path in tmp_path.rglob(entries):
        path.write_bytes(path.read_bytes()[:30])
    compiled, repaired, _, *warned = python(STEP, NUMBA_CACHE_DIR=tmp_path / "copy")
    assert int(compiled) > 0 and repaired == values
    assert warned and all(line.startswith("nbprop: recompiling ") for line in warned)
    assert all(line.endswith("its cache entry is unreadable ") for line in warned)
    assert python(STEP, NUMBA_CACHE_DIR=tmp_path / "copy")[:2] == ["0", values]


def test_a_launcher_whose_kernel_is_gone(cached, tmp_path):
    folder, (_, values, *_) = cached
    shutil.copytree(folder, tmp_path / "copy")
    for path in tmp_path.rglob("cpu.*"):
        path.unlink()
    compiled, again, _, *warned = python(STEP, NUMBA_CACHE_DIR=tmp_path / "copy")
    assert int(compiled) > 0 and again == values and not any(warned)


FOLDER = "from nbprop import jit; print(jit.cache_folder())"


def test_any_edit_makes_a_new_folder(tmp_path):
    shutil.copytree(ROOT / "nbprop", tmp_path / "nbprop", ignore=shutil.ignore_patterns("__pycache__"))

    def folder():
        (line,) = python(FOLDER, cwd=tmp_path, NUMBA_CACHE_DIR=tmp_path / "cache", PYTHONDONTWRITEBYTECODE=1)
        return line

    first = folder()
    assert folder() == first
    helper = tmp_path / "nbprop" / "ops" / "vecmath.py"
    text = helper.read_text("utf-8")
    helper.write_text(text + "\n# edited\n", "utf-8")
    assert folder() != first
    helper.write_text(text, "utf-8")
    assert folder() == first
    (tmp_path / "nbprop" / "ops" / "new.py").write_text('"""New."""\n')
    assert folder() != first


@pytest.mark.skipif(os.name == "nt", reason="the names of home differ")
def test_a_home_that_cannot_be_written_to(tmp_path):
    """Not by permissions: the superuser, whom containers run as, has all of them."""
    home, place = tmp_path / "home", tmp_path / "tmp"
    home.write_text("a file, in which no folder can be made")
    place.mkdir()
    where = {"HOME": home, "XDG_CACHE_HOME": home / "cache", "TMPDIR": place}
    (folder,) = python(FOLDER, **where)
    assert pathlib.Path(folder) == place / f"nbprop-{os.getuid()}" / f"kernels-{jit._SOURCES}"
    assert not pathlib.Path(folder).stat().st_mode & 0o077

    pathlib.Path(folder).chmod(0o777)  # where others could plant code: cache entries are pickles
    (other,) = python(FOLDER, **where)
    assert pathlib.Path(other).parent == place
    assert pathlib.Path(other).name.startswith("nbprop-") and other != folder


def test_the_cache_of_other_code_is_left_alone(tmp_path):
    code = """
import numba
from numba.core import config
config.CACHE_DIR = before = "elsewhere"
import nbprop.ops.conv.cpu
assert config.CACHE_DIR == before
"""
    python(code, TMPDIR=tmp_path, XDG_CACHE_HOME=tmp_path)


def test_a_kernel_that_cannot_be_stored_still_runs(tmp_path, monkeypatch):
    @jit.kernel
    def double(x):
        return 2 * x

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(double._cache._impl, "check_cachable", lambda result: True)
    monkeypatch.setattr(double._cache._cache_file, "save", full)
    with pytest.warns(UserWarning, match=r"nbprop: .*double.* was compiled but not cached: .*No space left"):
        assert double(3) == 6


def test_what_closes_over_other_packages_is_not_cached():
    """Their edits do not change the hash of our sources."""
    from numba import njit

    def made(function):
        def calls(x):
            return function(x)

        return jit._cells(calls)

    def foreign(x):
        return x

    foreign = njit(foreign)
    assert made(foreign) is None
    from nbprop.ops.activation import rectifiers

    ours = next(v for v in vars(rectifiers).values() if hasattr(v, "py_func"))
    assert made(ours)[0][0].startswith("nbprop.")
    assert made(3) == made(3) != made(4)


def test_plain_loops_are_compiled_once_for_all_orders_of_memory():
    @jit.reference
    def add(x, y):
        for i in range(x.shape[0]):
            for j in range(x.shape[1]):
                y[i, j] += x[i, j]

    x, y = np.arange(12.0).reshape(3, 4), np.zeros((3, 4))
    for given in (x, np.asfortranarray(x), np.repeat(x, 2, 0)[::2], x[::-1][::-1], x[:1].repeat(3, 0)):
        y[...] = 0
        add(given, y)
        np.testing.assert_array_equal(y, given)
    assert len(add.signatures) == 1
    add(x.astype(np.float32), y)
    assert len(add.signatures) == 2


def test_plain_loops_leave_the_types_of_other_functions_alone():
    """Numba has one table of arrays' types: a function that fills it by rules of its own slows all others."""
    lines = python("""
import numpy as np
from numba import njit
from nbprop.ops.linear import reference
from nbprop.shapes import Linear

@njit
def second(x):
    return x[0, 0]

x, w, b, y = (np.ones(shape, np.float32) for shape in ((2, 3), (4, 3), 4, (2, 4)))
first = reference.forward
first(x, w, b, y, Linear(2, 3, 4), False, None)
second(x)
second._compile_for_args = None  # what is called where no overload matches
print(second(x), second.signatures[0][0].layout, first.signatures[0][0].layout)
""")
    assert lines == ["1.0 C A"]


def test_numbers_in_a_call_do_not_compile_a_function_again():
    @jit.scalar
    def twice(x):
        return 2 * x

    @jit.kernel
    def inner(x, i):
        x[i] = twice(i) + twice(7)

    @jit.kernel
    def outer(x, i):
        inner(x, 0)
        inner(x, 1)
        inner(x, i)

    x = np.zeros(3)
    outer(x, 2)
    np.testing.assert_array_equal(x, [14, 16, 18])
    assert len(inner.signatures) == len(twice.signatures) == 1


def test_a_scalar_runs_from_python_too():
    """In CUDA's simulator kernels are plain Python, and call them so."""

    @jit.scalar
    def doubled(v):
        return 2 * v

    assert doubled(0.5) == 1.0
