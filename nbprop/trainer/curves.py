"""Draw loss and accuracy over the epochs; wants matplotlib."""

__all__ = ["draw"]


def draw(history, path):
    """Write the curves of a history to a picture file."""
    from matplotlib.figure import Figure  # not pyplot: no window system, no global state

    epochs = [record["epoch"] for record in history]
    names = [name for name in ("loss", "accuracy") if history and history[-1][name] is not None]
    figure = Figure(figsize=(4.5 * max(len(names), 1), 3.5), layout="constrained")
    for i, name in enumerate(names):
        axes = figure.add_subplot(1, len(names), i + 1, xlabel="epoch", title=name)
        for key, label in ((name, "training"), (f"validation_{name}", "validation")):
            if history[-1][key] is not None:
                axes.plot(epochs, [record[key] for record in history], marker="o", markersize=3, label=label)
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path, dpi=120)
