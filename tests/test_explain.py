"""`nbprop explain`: every function of the seeds has an entry, and what the entries name is there."""

import ast
import functools
import importlib
import pathlib

import pytest

from nbprop import explain
from nbprop.cli import main

ROOT = pathlib.Path(__file__).parents[1]

# What the library promises, by the section of the seed that asks for it.
PROMISED = {
    "000 2": "ReLU LeakyReLU PReLU Sigmoid Tanh Abs Power Hardtanh ELU SiLU GELU Softplus Hardsigmoid "
             "Hardswish Softmax LogSoftmax activation",
    "000 3": "MaxPool2d MaxUnpool2d AvgPool2d AvgUnpool2d MVN InstanceNorm2d BatchNorm2d GroupNorm LayerNorm "
             "Conv2d ConvTranspose2d AdaptiveAvgPool2d",
    "000 4": "ZeroPad2d ConstantPad2d ReflectionPad2d ReplicationPad2d CircularPad2d Crop2d Flatten "
             "Upsample",
    "000 5": "EuclideanLoss MSELoss L1Loss HuberLoss BCEWithLogitsLoss CrossEntropyLoss TotalVariationLoss",
    "000 6": "GramMatrix StyleLoss",
    "001": "conv2d_forward conv2d_flip_forward im2col col2im Linear Sigmoid Tanh ReLU Hardtanh MaxPool2d "
           "Function UnitNetwork product_layers gradient_norms",
    "002": "ScalarGraph mlp weight_decay Recompute",
    "003": "Linear Conv2d MaxPool2d Flatten dilated_delta_forward strided_backward_input "
           "strided_backward_weight",
    "004": "mlp CrossEntropyLoss ReLU",
    "graphs and checks": "Graph Residual Add Concat gradcheck adjoint_check Dropout",
}  # fmt: skip


@pytest.mark.parametrize("section", PROMISED)
def test_every_promise_has_an_entry(section):
    for op in PROMISED[section].split():
        entry = explain.find(op)
        assert entry.formula and entry.gradient and entry.symbols and entry.sources, op
        if section[:3].isdigit() and section[:3] != "000":
            assert any(s.startswith(section[:3]) for s in entry.sources), f"{op} does not name seed {section}"


def test_each_heading_of_seed_000_is_someones_source():
    places = {s.split(",")[0] for entry in explain.entries().values() for s in entry.sources}
    for chapter, last in ((2, 6), (3, 7), (4, 2), (5, 3), (6, 1)):
        for section in range(1, last + 1):
            assert f"000 {chapter}.{section}" in places


@functools.cache
def functions(path):
    return {node.name for node in ast.walk(ast.parse((ROOT / path).read_text("utf-8")))
            if isinstance(node, (ast.FunctionDef, ast.ClassDef))}  # fmt: skip


@pytest.mark.parametrize("op", explain.entries())
def test_what_an_entry_names_exists(op):
    entry = explain.entries()[op]
    for name in entry.names:
        module, _, attribute = f"nbprop.{name}".rpartition(".")
        assert hasattr(importlib.import_module(module), attribute), name
    path, function = entry.reference.split(": ")
    assert function in functions(path)
    for line in explain.text(op).splitlines():
        assert len(line) <= 130, line


def test_kernels_of_every_op_are_explained():
    """Every folder of ops but the optimisers' and the counters' has its public functions in some entry."""
    named = {name for entry in explain.entries().values() for name in entry.names}
    for folder in sorted((ROOT / "nbprop" / "ops").glob("*/__init__.py")):
        op = folder.parent.name
        if op not in ("update", "tally", "pointwise_loss", "activation"):
            assert any(name.startswith(f"ops.{op}.") for name in named), f"ops.{op} has no entry"


def test_text_shows_all_parts(capsys):
    assert main(["explain", "relu"]) == 0
    out = capsys.readouterr().out
    for part in ("y = max(0, x)", "seed 000 2.1, equations 4 to 6", "dy = dE/dy", "dx = dy where x > 0",
                 "nbprop/ops/activation/rectifiers.py: relu", "grad_at_zero=1.0"):  # fmt: skip
        assert part in out


@pytest.mark.parametrize("name", ["Conv2d", "conv2d", "nbprop.nn.Conv2d", "CONV2D_BACKWARD_INPUT"])
def test_found_by_any_of_its_names(name):
    assert explain.find(name).op == "conv2d"


def test_listing_has_all(capsys):
    assert main(["explain"]) == 0
    words = set(capsys.readouterr().out.replace(",", " ").split())
    assert set(explain.entries()) <= words


def test_unknown_op(capsys):
    assert main(["explain", "maxpol2d"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("nbprop explain: op is 'maxpol2d'; expected one of those that `nbprop explain` "
                          "lists; like it are maxpool2d")  # fmt: skip
    assert err.count("\n") == 1
