"""What the examples with pictures share: asking for what they need, and writing images in a grid."""

import argparse
import importlib.util


def arguments(description, out, needs):
    """Parse --quick and --out; stop with one sentence if a package is missing."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="toy size")
    parser.add_argument("--out", default=out, help=f"picture to write; default: {out}")
    args = parser.parse_args()
    for package, install in needs.items():
        if importlib.util.find_spec(package) is None:
            raise SystemExit(f"this example needs {package}: {install}")
    return args


def write(path, rows):
    """Write rows of (title, grey image from 0 to 1) as one PNG."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(len(rows), len(rows[0]), squeeze=False,
                                   figsize=(3 * len(rows[0]), 3.3 * len(rows)))  # fmt: skip
    for row, places in zip(rows, axes):
        for (title, image), axis in zip(row, places):
            axis.imshow(image, cmap="gray", vmin=0, vmax=1)
            axis.set_title(title)
            axis.axis("off")
    figure.tight_layout()
    figure.savefig(path)
    pyplot.close(figure)
    print(f"wrote {path}")


PLOT = {"matplotlib": "pip install 'nbprop[plot]'"}
PHOTOGRAPHS = dict.fromkeys(("skimage", "matplotlib"), "pip install 'nbprop[examples]'")
