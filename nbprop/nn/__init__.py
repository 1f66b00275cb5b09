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
)
from nbprop.nn.conv import Conv2d
from nbprop.nn.dropout import Dropout
from nbprop.nn.flatten import Flatten
from nbprop.nn.linear import Linear
from nbprop.nn.loss import CrossEntropyLoss
from nbprop.nn.module import Module, Parameter
from nbprop.nn.pooling import AvgPool2d, MaxPool2d
from nbprop.nn.sequential import Sequential
from nbprop.nn.softmax import LogSoftmax, Softmax

__all__ = [
    "ELU",
    "GELU",
    "Abs",
    "Activation",
    "AvgPool2d",
    "Conv2d",
    "CrossEntropyLoss",
    "Dropout",
    "Flatten",
    "Hardsigmoid",
    "Hardswish",
    "Hardtanh",
    "LeakyReLU",
    "LearnedActivation",
    "Linear",
    "LogSoftmax",
    "MaxPool2d",
    "Module",
    "PReLU",
    "Parameter",
    "Power",
    "ReLU",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Tanh",
]
