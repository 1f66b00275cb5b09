"""The examples run offline at toy size, and say in one sentence what they miss."""

import importlib.util
import os
import pathlib
import subprocess
import sys

import pytest

EXAMPLES = pathlib.Path(__file__).parents[1] / "examples"
SCRIPTS = sorted(path.stem for path in EXAMPLES.glob("*.py") if path.stem != "pictures")
NEEDS = {
    "total_variation_denoising": ["skimage", "matplotlib"],
    "texture_synthesis": ["skimage", "matplotlib"],
    "deconvolution_autoencoder": ["matplotlib"],
}
SAYS = {
    "own_activation": "a wrong slope is refused: slope is",
    "scalar_graph": "products by paths",
    "vanishing_gradients": "Tanh, Residual",
}


def run(script, folder, *arguments, before=""):
    code = f"""
import runpy, socket, sys
def offline(*_):
    raise OSError("no network in this test")
socket.socket.connect = offline
{before}
sys.path.insert(0, {str(EXAMPLES)!r})
sys.argv = [{script!r}, *{list(arguments)!r}]
runpy.run_path({str(EXAMPLES / script)!r} + ".py", run_name="__main__")
"""
    environment = os.environ | {"PYTHONPATH": str(EXAMPLES.parent)}
    return subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=folder, env=environment,
                          capture_output=True, text=True, timeout=300)  # fmt: skip


@pytest.mark.parametrize("script", SCRIPTS)
def test_runs(script, tmp_path):
    for package in NEEDS.get(script, []):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    done = run(script, tmp_path, "--quick")
    assert (done.returncode, done.stderr) == (0, "")
    if script in NEEDS:
        assert (tmp_path / f"{script}.png").read_bytes().startswith(b"\x89PNG")
        assert f"wrote {script}.png" in done.stdout
    else:
        assert SAYS[script] in done.stdout


@pytest.mark.parametrize("script", NEEDS)
def test_says_what_is_missing(script, tmp_path):
    missing = NEEDS[script][0]
    hide = f"""
import importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == {missing!r} else found(name, *rest)"""
    done = run(script, tmp_path, "--quick", before=hide)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"this example needs {missing}: pip install 'nbprop[")
    assert done.stderr.count("\n") == 1


def test_the_readme_lists_all():
    readme = (EXAMPLES / "README.md").read_text("utf-8")
    assert all(f"`{script}.py`" in readme for script in SCRIPTS)
