"""nbprop warmup: compile what models need before anybody waits for it."""

import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor, as_completed

__all__ = ["add_parser"]

# Each part is a function of nbprop.models, one image's shape and a batch size; those that compile longest come first.
_MODELS = {
    "resnet20": [("resnet20", (3, 32, 32), 64)],
    "cifar_cnn": [("cnn", (3, 32, 32), 64)],
    "cnn": [("cnn", (1, 28, 28), 64), ("cnn", (1, 8, 8), 64)],
    "lenet": [("lenet", (1, 28, 28), 64)],
    "mlp": [("mlp", (1, 28, 28), 128)],
}


def add_parser(commands):
    """Add the command."""
    parser = commands.add_parser(
        "warmup", help="compile the kernels of models now, for later runs",
        description="Make one training step and one evaluation step of each model at its usual size, each in a "
                    "process of its own: what they compile stays in the cache folder.")
    parser.add_argument("--model", nargs="+", choices=(*_MODELS, "all"), default=["all"], help="default: all")
    parser.add_argument("--processes", type=int, metavar="N", help="default: one per CPU")
    parser.set_defaults(run=run)


def run(args):
    """Print a line per model as it is done, and where the kernels are."""
    from numba import config

    from nbprop import jit, shapes

    names = _MODELS if "all" in args.model else dict.fromkeys(args.model)
    parts = [part for name in _MODELS if name in names for part in _MODELS[name]]
    processes = config.NUMBA_NUM_THREADS if args.processes is None else args.processes
    processes = min(shapes.integer("--processes", processes, 1), len(parts))
    print(f"models: {len(parts)}, processes: {processes}", flush=True)
    begun, total = time.perf_counter(), 0
    # Started anew, not forked: Numba's threads do not survive a fork.
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        for done in as_completed([pool.submit(_compile, *part) for part in parts]):
            name, count, seconds = done.result()
            total += count
            print(f"{name}: {count} kernels compiled in {seconds:.1f} s", flush=True)
    print(f"{total} kernels compiled in {time.perf_counter() - begun:.1f} s; they are in {jit.cache_folder()}")


def _compile(model, sample, batch):
    """Train and evaluate on a batch of noise; return (name, kernels compiled, seconds)."""
    import numpy as np

    from nbprop import data, models, nn, optim
    from nbprop.trainer import Trainer, compiling

    begun = time.perf_counter()
    images = np.random.default_rng(0).integers(0, 256, (batch, *sample), np.uint8)
    dataset = data.Dataset(images, np.arange(batch) % 10)
    net = getattr(models, model)(channels=sample[0], size=sample[1:])
    with compiling.watch(lambda name: None) as watched:
        for optimizer in (optim.AdamW(net.parameters()), optim.SGD(net.parameters(), momentum=0.9)):
            Trainer(net, nn.CrossEntropyLoss(), optimizer, progress=False).fit(dataset, dataset, 1, batch)
    name = f"{model} of {'x'.join(map(str, sample))}, batch {batch}"
    return name, watched.count, time.perf_counter() - begun
