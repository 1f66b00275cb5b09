"""Press the digits into 8 numbers, and draw them again with transposed convolutions."""

import numpy as np
import pictures

import nbprop
from nbprop import data, nn, optim


def autoencoder():
    """8 x 8 down to 2 x 2 by strides, to 8 numbers, and back up by the same strides transposed."""
    encoder = nn.Sequential(
        nn.Conv2d(1, 16, 3, stride=2, padding=1), nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU(),
        nn.Conv2d(32, 8, 2),
    )  # fmt: skip
    decoder = nn.Sequential(
        nn.ConvTranspose2d(8, 32, 2), nn.ReLU(),
        nn.ConvTranspose2d(32, 16, 3, stride=2, padding=1, output_padding=1), nn.ReLU(),
        nn.ConvTranspose2d(16, 1, 3, stride=2, padding=1, output_padding=1),
    )  # fmt: skip
    return nn.Sequential(encoder, decoder)


def main():
    args = pictures.arguments(__doc__, "deconvolution_autoencoder.png", pictures.PLOT)
    nbprop.manual_seed(0)
    train, test = (set_.images.astype(np.float32) / set_.images.max() for set_ in data.digits())
    model, epochs = autoencoder(), 2 if args.quick else 40
    loss, descent = nn.MSELoss(), optim.Adam(model.parameters(), 2e-3)
    shuffle = np.random.default_rng(0)
    print(f"a constant image would leave {np.var(test):.4f}")
    for epoch in range(1, epochs + 1):
        for batch in np.array_split(shuffle.permutation(len(train)), len(train) // 32):
            loss.forward(model.forward(train[batch]), train[batch])
            model.backward(loss.backward(), input_gradient=False)
            descent.step()
        if epoch in (1, 2, 5, 10, 20, 40):
            print(f"epoch {epoch:>2}: mean squared error on the test digits {loss(model(test), test):.4f}")
    drawn = model(test[:10])
    pictures.write(args.out, [[("digit", image[0]) for image in test[:10]],
                              [("8 numbers", image[0]) for image in drawn]])  # fmt: skip


if __name__ == "__main__":
    main()
