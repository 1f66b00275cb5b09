"""The house rules, held by reading the sources: import directions, twins, docstrings, sizes."""

import ast
import importlib
import importlib.util
import inspect
import pathlib
import re
import subprocess
import sys

import pytest

import nbprop

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / "nbprop"
SOURCES = sorted(PACKAGE.rglob("*.py"))
OPS = sorted(p.parent.name for p in PACKAGE.glob("ops/*/__init__.py"))

# Imports go down only, to a lower rank or to the same one. A new part of the package gets its place here.
RANK = {
    "version": 0, "distribute": 0, "jit": 0, "layout": 0, "checks": 0, "shapes": 0, "gpu": 0, "precision": 0,
    "upload": 0, "scalar_graph": 0, "explain": 0, "tape": 0, "scratch": 1, "lent": 1,
    "backend": 1,
    "ops": 2, "repeat": 2, "defer": 2,
    "nn": 3, "optim": 3, "schedule": 3, "gradient_check": 3, "norms_of_gradients": 3, "data": 3,
    "models": 4, "saving": 4, "model_summary": 4,
    "trainer": 5,
    "__init__": 6,
    "bench": 7,
    "cli": 8,
    "__main__": 9,
}  # fmt: skip

# Ops made of products: they alone may reach what is built on the micro-kernel.
DENSE_OPS = {"conv", "conv_flip", "conv_transpose", "linear", "gram"}
DENSE = {"dense", "correlate", "lanewise", "lanewise_outer", "micro_kernel", "outer", "slide", "cuda_correlate",
         "cuda_lanewise", "cuda_outer", "cuda_tensor", "cuda_tile"}
SHARED = {path.stem for path in PACKAGE.glob("ops/*.py")}


def relative(path):
    return path.relative_to(ROOT).as_posix()


def dotted(path):
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def part(module):
    """The top-level part of nbprop that a module is in."""
    return [*module.split("."), "__init__"][1]


MODULES = {dotted(path): path for path in SOURCES}
every_source = pytest.mark.parametrize("path", SOURCES, ids=relative)


def tree(path):
    return ast.parse(path.read_text("utf-8"))


def imports(path):
    """Every module that a file imports, inside functions too; `from a import b` is a.b if a module."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{relative(path)}:{node.lineno} has a relative import; write it in full"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in MODULES else node.module


def ours(path):
    return [module for module in imports(path) if module.split(".")[0] == "nbprop"]


@every_source
def test_imports_go_down(path):
    me = part(dotted(path))
    assert me in RANK, f"{me} has no rank: give it its place in {relative(pathlib.Path(__file__))}"
    for module in ours(path):
        assert RANK[part(module)] <= RANK[me], f"{relative(path)} imports {module}, which stands above it"


@pytest.mark.parametrize("op", OPS)
def test_ops_do_not_import_each_other(op):
    for path in sorted((PACKAGE / "ops" / op).rglob("*.py")):
        for module in ours(path):
            if part(module) != "ops" or f"{module}.".startswith(f"nbprop.ops.{op}."):
                continue
            if op in DENSE_OPS:  # a linear layer is a 1x1 convolution
                assert module.split(".")[2] in DENSE_OPS | SHARED, f"{relative(path)} imports {module}"
            else:
                assert module.split(".")[2] in SHARED - DENSE, f"{relative(path)} imports {module}"


def test_only_one_module_names_a_cuda_package():
    cuda = re.compile(r"(numba[._]cuda|cuda|cupy|pynvml)\b")
    for path in SOURCES:
        if relative(path) == "nbprop/gpu.py":
            continue
        named = [m for m in imports(path) if cuda.match(m)]
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Constant) and str(node.value).startswith("numba.cuda"):
                named.append(node.value)  # importlib.import_module("numba.cuda")
            if isinstance(node, ast.Attribute) and ast.unparse(node) == "numba.cuda":
                named.append("numba.cuda")
        assert not named, f"{relative(path)} names {named}"


def test_only_cuda_twins_import_the_module_that_imports_cuda():
    twins = re.compile(r"nbprop/(upload|ops/(\w+/)?cuda(_\w+)?)\.py")
    for path in SOURCES:
        if "nbprop.gpu" in imports(path):
            assert twins.fullmatch(relative(path)), f"{relative(path)} imports nbprop.gpu; ask layout.gpu() for it"


def test_import_is_light():
    """Importing nbprop loads nothing; its names no CUDA package, nor optional ones; and neither compiles."""
    code = """
import sys, nbprop
print(sorted(m for m in sys.modules if m.split(".")[0] in ("numpy", "numba", "llvmlite")))
from nbprop import *
heavy = {"torch", "matplotlib", "sklearn", "jax", "cupy", "PIL", "pytest", "numba_cuda", "asv"}
print(sorted(m for m in sys.modules if m.split(".")[0] in heavy or m.startswith("numba.cuda")))
import gc
from numba.core.dispatcher import Dispatcher
print(sorted(d.py_func.__qualname__ for d in gc.get_objects() if isinstance(d, Dispatcher) and d.overloads
             and d.py_func.__module__.startswith("nbprop")))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "[]\n" * 3), done.stdout + done.stderr


def test_public_names_are_imported_when_asked_for():
    """What the package does at run time is what editors and type checkers read in it."""
    declared = {}
    for node in ast.walk(tree(PACKAGE / "__init__.py")):
        if isinstance(node, ast.ImportFrom) and node.module not in ("typing", "nbprop.version"):
            home = node.module.removeprefix("nbprop").removeprefix(".") or None
            declared |= {alias.asname or alias.name: home for alias in node.names}
    assert {name: home for name, home in declared.items() if home} == nbprop._HOMES
    assert dir(nbprop) == sorted(nbprop.__all__) == sorted([*declared, "__version__"])
    for name, home in declared.items():
        module = importlib.import_module(f"nbprop.{home or name}")
        assert getattr(nbprop, name) is (getattr(module, name) if home else module)
        # A module of a function's name would take its place as soon as anybody imports it.
        assert home is None or f"nbprop.{name}" not in MODULES
    with pytest.raises(AttributeError, match="nbprop has no attribute 'relu'"):
        nbprop.relu  # noqa: B018


def functions(module):
    """The functions and compiled functions that a module defines under public names."""
    for name, value in vars(module).items():
        plain = getattr(value, "py_func", value)
        if not name.startswith("_") and inspect.isfunction(plain) and plain.__module__ == module.__name__:
            yield name, plain


@pytest.mark.parametrize("op", OPS)
def test_twins_have_one_signature(op):
    names = "reference", "cpu", "cuda"
    lacking = [name for name in names if not (PACKAGE / "ops" / op / f"{name}.py").exists()]
    assert not lacking, f"ops/{op} lacks the twins {lacking}"
    names = names if importlib.util.find_spec("numba_cuda") else names[:2]
    first, *others = ({f: list(inspect.signature(v).parameters) for f, v in functions(
        importlib.import_module(f"nbprop.ops.{op}.{name}"))} for name in names)
    assert first, f"ops/{op}/reference.py has no public function"
    for other in others:
        assert other == first


def public(module):
    """The names in `__all__` that the module itself defines as functions or classes."""
    for name in getattr(module, "__all__", ()):
        value = getattr(module, name)
        if (inspect.isclass(value) or inspect.isfunction(value)) and value.__module__ == module.__name__:
            yield name, value


def importable():
    without = r"__main__$" if importlib.util.find_spec("numba_cuda") else r"(__main__|\.gpu|\.upload|\.cuda(_\w+)?)$"
    return [name for name in MODULES if not re.search(without, name)]


@pytest.mark.parametrize("name", importable())
def test_public_names_are_documented(name):
    module = importlib.import_module(name)
    assert inspect.getdoc(module) or not pathlib.Path(module.__file__).read_text("utf-8").strip(), name
    for public_name, value in public(module):
        lacks = missing_sections(name, value)
        assert not lacks, f"{name}.{public_name} lacks {lacks} in its docstring"


def is_for_users(value):
    """Say whether a class is one that users are told to import."""
    packages = [importlib.import_module(f"nbprop{p}") for p in ("", ".nn", ".optim", ".trainer", ".data")]
    used = [getattr(p, name) for p in packages for name in getattr(p, "__all__", ())]
    return inspect.isclass(value) and any(value is u for u in used)


def missing_sections(module, value):
    """What a public name's docstring must have: in ops all sections, in classes for users Parameters."""
    text = value.__doc__ or ""
    if not text.strip():
        return ["docstring"]
    initialiser = value.__init__ if inspect.isclass(value) else value
    takes = inspect.isfunction(initialiser) and set(inspect.signature(initialiser).parameters) - {"self"}
    wanted = []
    is_op = re.search("_(forward|backward|update)", value.__name__) and inspect.isfunction(value)
    if is_op and re.fullmatch(r"nbprop\.ops\.\w+", module):
        wanted = ["Parameters", "Returns", "Raises", "Source"]
    elif takes and is_for_users(value) and not issubclass(value, (tuple, Exception)):
        wanted = ["Parameters"]
    return [w for w in wanted if not re.search(rf"^\s*{w}(\n\s*-{{{len(w)}}}$|: )", text, re.MULTILINE)]


def test_public_names_exist():
    for name in importable():
        module = importlib.import_module(name)
        for public_name in getattr(module, "__all__", ()):
            assert hasattr(module, public_name), f"{name}.__all__ names {public_name}"


@every_source
def test_small_enough_to_read(path):
    lines = path.read_text("utf-8").count("\n")
    assert lines <= 500, f"{relative(path)} has {lines} lines"
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef):
            length = node.end_lineno - node.lineno + 1
            assert length <= 80, f"{relative(path)}:{node.lineno} {node.name} has {length} lines"


@every_source
def test_reordered_sums_store_nothing(path):
    """Beside a store, whether a loop runs in vectors, and so its order, depends on the arrays' addresses."""
    for function in ast.walk(tree(path)):
        if isinstance(function, ast.FunctionDef) and any("reassoc" in ast.unparse(d) for d in function.decorator_list):
            stores = [t for n in ast.walk(function) if isinstance(n, (ast.Assign, ast.AugAssign))
                      for t in (n.targets if isinstance(n, ast.Assign) else [n.target]) if isinstance(t, ast.Subscript)]
            assert not stores, f"{function.name} stores into {ast.unparse(stores[0])}; see nbprop/ops/run_sum.py"


def test_there_is_one_parallel_loop():
    """See nbprop/distribute.py."""
    loops = [relative(path) for path in SOURCES for node in ast.walk(tree(path))
             if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("prange")]
    assert loops == ["nbprop/jit.py"], f"prange in {loops}; write a jit.driver"


@every_source
def test_plain_python(path):
    assert path.stem not in ("utils", "util", "config", "helpers", "common", "registry"), relative(path)
    for node in ast.walk(tree(path)):
        called = ast.unparse(node.func) if isinstance(node, ast.Call) else None
        assert called not in ("exec", "eval", "compile", "__import__"), f"{relative(path)}:{node.lineno}"
        if isinstance(node, ast.ClassDef):
            assert not node.keywords, f"{relative(path)}:{node.lineno} {node.name} has a metaclass"


def test_nothing_names_the_machine_it_was_written_on():
    folders = [ROOT / f for f in ("nbprop", "tests", "asv_benchmarks", "examples", ".ci")]
    files = [path for folder in folders for path in folder.rglob("*") if ".asv" not in path.parts]
    host = re.compile(r"(?<![\w.])/(work|root|home|opt|Users)/|pypi\.(org|python)|files\.pythonhosted|C:\\")
    for path in [*files, *ROOT.glob("*.*")]:
        if path.suffix in (".py", ".md", ".toml", ".json", ".yml", ".cfg", "") and path.is_file():
            if path == pathlib.Path(__file__) or path.name == ".git":
                continue
            found = host.search(path.read_text("utf-8"))
            assert not found, f"{path.relative_to(ROOT)} names {found.group()}"
