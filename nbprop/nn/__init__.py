"""Layers and losses as objects, with torch.nn's names, arguments and defaults."""

from nbprop.nn.activation import (
    ELU,
    GELU,
    Abs,
    Activation,
    Hardsigmoid,
    Hardswish,
    Hardtanh,
    LeakyReLU,
    LearnedActivation,
    Power,
    PReLU,
    ReLU,
    Sigmoid,
    SiLU,
    Softplus,
    Tanh,
    activation,
)
from nbprop.nn.dropout import Dropout
from nbprop.nn.flatten import Flatten
from nbprop.nn.pooling import AvgPool2d, MaxPool2d

__all__ = [
    "ELU",
    "GELU",
    "Abs",
    "Activation",
    "AvgPool2d",
    "Dropout",
    "Flatten",
    "Hardsigmoid",
    "Hardswish",
    "Hardtanh",
    "LeakyReLU",
    "LearnedActivation",
    "MaxPool2d",
    "PReLU",
    "Power",
    "ReLU",
    "SiLU",
    "Sigmoid",
    "Softplus",
    "Tanh",
    "activation",
]
