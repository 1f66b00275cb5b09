"""A custom activation in ten lines: value and slope as plain Python, compiled and checked by `nbprop.activation`."""

import argparse

import nbprop
from nbprop import data, nn, optim
from nbprop.ops.vecmath import sigmoid


def value(x, beta):
    return x * sigmoid(beta * x)


def slope(x, beta):
    s = sigmoid(beta * x)
    return s + beta * x * s * (1 - s)


Swish = nbprop.activation(value, slope, {"beta": 1.0})


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one epoch")
    epochs = 1 if parser.parse_args().quick else 10
    train, test = data.digits()
    for name, activation in (("Swish", Swish), ("Swish, beta 2", lambda: Swish(beta=2.0)), ("ReLU", nn.ReLU)):
        nbprop.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), activation(), nn.Linear(64, 10))
        descent = optim.Adam(model.parameters(), 3e-3)
        trainer = nbprop.Trainer(model, nn.CrossEntropyLoss(), descent, progress=False)
        print(f"{name:<14} {trainer.fit(train, test, epochs)[-1]['validation_accuracy']:.1%} of the test digits")
    try:
        nbprop.activation(value, lambda x, beta: sigmoid(beta * x), {"beta": 1.0})
    except ValueError as e:
        print(f"a wrong slope is refused: {e}")


if __name__ == "__main__":
    main()
