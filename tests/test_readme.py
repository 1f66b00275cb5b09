"""The README's commands and Python blocks, run as a reader would run them."""

import os
import pathlib
import re
import shlex
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")

# `.ci/run` runs these in a fresh environment: they install, and they run this very suite.
LEFT_TO_CI = ["python -m pip install", "python -m pytest"]


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


COMMANDS = [line for block in blocks("sh") for line in block.splitlines()]
OURS = [line for line in COMMANDS if line.startswith("nbprop ")]


def run(arguments, folder):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, *arguments], cwd=folder, env=environment, stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("command", OURS)
def test_command(command, tmp_path):
    main = "from nbprop.cli import main; raise SystemExit(main())"
    assert run(["-c", main, *shlex.split(command)[1:]], tmp_path).strip()


@pytest.mark.parametrize("block", blocks("python")[1:], ids=lambda block: block.splitlines()[1])
def test_python_block(block, tmp_path):
    assert run(["-c", block], tmp_path).strip()


def test_first_example_learns(tmp_path):
    """It is twelve lines long, as promised, and it has understood most of the digits at the end."""
    example = blocks("python")[0]
    assert len(example.splitlines()) <= 12
    accuracy = re.search(r"'accuracy': ([\d.]+)", run(["-c", example], tmp_path))
    assert float(accuracy[1]) > 0.9


def test_every_command_is_run_somewhere():
    others = [command for command in COMMANDS if command not in OURS]
    assert len(others) == len(LEFT_TO_CI)
    for command, start in zip(others, LEFT_TO_CI):
        assert command.startswith(start)


def test_first_line_trains():
    install, train = COMMANDS[0].split(" && ")
    assert install == 'python -m pip install -e ".[test]"'
    assert train == "nbprop train digits"
