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
from nbprop.nn.loss import (
    BCEWithLogitsLoss,
    CrossEntropyLoss,
    EuclideanLoss,
    HuberLoss,
    L1Loss,
    MSELoss,
    PointwiseLoss,
)
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
    "BCEWithLogitsLoss",
    "Conv2d",
    "CrossEntropyLoss",
    "Dropout",
    "EuclideanLoss",
    "Flatten",
    "Hardsigmoid",
    "Hardswish",
    "Hardtanh",
    "HuberLoss",
    "L1Loss",
    "LeakyReLU",
    "LearnedActivation",
    "Linear",
    "LogSoftmax",
    "MSELoss",
    "MaxPool2d",
    "Module",
    "PReLU",
    "Parameter",
    "PointwiseLoss",
    "Power",
    "ReLU",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Tanh",
]
