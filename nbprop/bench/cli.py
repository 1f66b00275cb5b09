"""The command `nbprop bench`."""

import sys
from types import SimpleNamespace

__all__ = ["add_parser", "bench", "contests", "note"]


def add_parser(subparsers):
    """Add `bench` to the commands of `nbprop`; it runs as `args.run(args)` and returns an exit code."""
    parser = subparsers.add_parser(
        "bench", help="time the kernels, alone or against PyTorch",
        description="Time named convolutions, operations bound by memory, or training steps. Each result is "
        "checked against float64 first; ours and the peer's are timed in turns, 7 rounds of at least 50 ms "
        "each, and the medians are printed.")
    parser.add_argument("what", choices=["conv", "ops", "step", "all", "memory", "train"],
                        help="convolutions, what is bound by memory, whole training steps, or all three; the peak "
                             "memory of a step; or CIFAR-10 from start to test accuracy")
    parser.add_argument("rows", nargs="*", metavar="ROW", help="names of rows (default: all)")
    parser.add_argument("--vs", choices=["torch", "jax"],
                        help="time this library too (torch in its better memory format; jax for step mlp alone)")
    parser.add_argument("--threads", type=int, metavar="N", help="threads for both sides (default: all)")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu",
                        help="cuda: on a GPU, by its events, on batches larger than its cache")
    parser.add_argument("--json", action="store_true", help="print one JSON list instead of a table")
    parser.add_argument("--plot", metavar="FILE", help="draw the ratios, or without --vs the speeds (.png, .svg, .pdf)")
    parser.add_argument("--explain", action="store_true", help="conv: print each pass's algorithm, and time nothing")
    parser.add_argument("--data", metavar="DIR", help="train: folder with CIFAR-10's binary files")
    parser.add_argument("--epochs", type=int, metavar="N", help="train: default 3")
    parser.add_argument("--limit", type=int, metavar="N", help="train: use the first N images alone")
    parser.set_defaults(run=_run)
    return parser


def _run(args):
    """Refuse options that the work does not know, then do it."""
    of_one = {"explain": ["conv"], "data": ["train"], "epochs": ["train"], "limit": ["train"],
              "plot": ["conv", "ops", "step", "all"],
              "rows": ["conv", "ops", "step", "all", "memory"]}  # fmt: skip
    for option, works in of_one.items():
        if _given(getattr(args, option)) and args.what not in works:
            name = "ROW" if option == "rows" else f"--{option}"
            raise ValueError(f"{name} is given with bench {args.what}; expected it with bench {' or '.join(works)}")
    if args.explain:
        return _explain(args)
    if args.what in ("memory", "train"):
        return _whole(args)
    return bench(args.what, args.rows, args.vs, args.threads, args.json, args.plot, args.device)


def _given(value):
    """Say whether an option's value is another than its default; 0 is."""
    return value is not None and value is not False and value != []


def _explain(args):
    from nbprop.bench.explain import explain

    given = [f"--{name}" for name in ("vs", "threads", "json", "plot") if _given(getattr(args, name))]
    if given:
        raise ValueError(f"{given[0]} is given with --explain; expected rows alone, as nothing is timed")
    print("\n".join(explain(args.rows)))


def _whole(args):
    """Measure memory, or a whole training."""
    from nbprop import jit
    from nbprop.bench import memory, peer, train

    if args.vs == "jax":
        raise ValueError(f"--vs is jax with bench {args.what}; expected torch")
    if args.device != "cpu":
        raise ValueError(f"--device is {args.device} with bench {args.what}; expected cpu")
    threads = jit.threads() if args.threads is None else args.threads
    torch = _torch(args.vs)
    peer.set_threads(threads, torch)
    if args.what == "memory":
        return memory.compare(args.rows, torch is not None, threads, args.json)
    return train.compare(args.data, torch, args.epochs, args.limit, args.json)


def _torch(vs):
    from nbprop.bench import peer

    torch = peer.find_torch() if vs == "torch" else None
    if vs == "torch" and torch is None:
        note("torch is not installed (pip install torch): timing ours alone")
    return torch


def bench(what, names=(), vs=None, threads=None, as_json=False, plot=None, device="cpu"):
    """Run rows of the suite and print them; return 0, or 1 where a result was wrong.

    Raises
    ------
    ValueError
        If a row is unknown, there are too few threads, the peer or the picture cannot be had, or there is no GPU where
        `device` is "cuda".
    """
    from nbprop import jit
    from nbprop.bench import jax_step, peer, picture, report
    from nbprop.bench.contest import WrongResult, run

    if plot:
        picture.check(plot)
    threads = jit.threads() if threads is None else threads
    torch = _torch(vs)
    jax = jax_step.check(what, names, threads) if vs == "jax" else None
    peer.set_threads(threads, torch)
    limits = _on_gpu(torch) if device == "cuda" else _on_cpu(threads)
    table = (lambda text: None) if as_json else (lambda text: print(text, flush=True))

    results = []
    try:
        chosen = contests(what, names, torch, jax, device)
        ceiling = limits.peak_gflops()
        table(limits.title.format(ceiling))
        table(report.header(vs or "torch"))
        for contest in chosen:
            results.append(run(contest, limits.copying, **limits.race))
            table(report.line(results[-1], ceiling))
    except WrongResult as e:
        note(str(e))
        return 1
    for text in report.means(results, vs):
        table(text)
    if as_json:
        print(report.to_json(results))
    if plot:
        picture.bars(results, plot, vs)
    return 0


def _on_cpu(threads):
    """Say how to time, and what the machine can do at most."""
    from nbprop.bench import peak

    return SimpleNamespace(
        title=f"{threads} threads, float32; the bare micro-kernel runs at {{:.0f}} GFLOP/s", race={},
        peak_gflops=lambda: peak.peak_gflops(threads), copying=lambda nbytes: peak.copying(nbytes, threads))


def _on_gpu(torch):
    """The same for a GPU."""
    from nbprop import layout
    from nbprop.bench import on_gpu

    try:
        layout.mover("cuda")
    except (ImportError, RuntimeError) as e:
        raise ValueError(f"--device is cuda, but {e}") from None
    if torch is not None:
        on_gpu.prepare_torch(torch)
    race = {"timer": on_gpu.seconds_per_call}
    if layout.gpu().SIMULATED:
        race |= {"rounds": 1, "least": 0.0}
    title = f"{layout.gpu().description()}, float32, no TF32; its units allow {{:.0f}} GFLOP/s"
    return SimpleNamespace(title=title, race=race, peak_gflops=on_gpu.peak_gflops, copying=on_gpu.copying)


def contests(what, names, torch, jax=None, device="cpu"):
    """Pick the rows; names are checked here and now, data is drawn as each row's turn comes."""
    from nbprop.bench import conv, on_gpu, ops, step, suite

    kinds = {"conv": (suite.conv_rows(), conv), "ops": (suite.memory_bound_shapes(), ops),
             "step": (suite.net_rows(), step)}  # fmt: skip
    chosen = kinds.values() if what == "all" else [kinds[what]]
    rows = {name: (row, kind) for named, kind in chosen for name, row in named.items()}
    rows = suite.select(rows, names)
    for name, (row, kind) in list(rows.items()):
        if kind is step and (reason := step.missing(name, row)):
            note(f"{name} skipped: {reason}")
            del rows[name]
    if device == "cuda":
        rows = {name: (on_gpu.gpu_row(name, row), kind) for name, (row, kind) in rows.items()}
    peers = {"jax": jax} if jax else {}
    return (contest for name, (row, kind) in rows.items()
            for contest in kind.contests(name, row, torch, device, **peers))


def note(text, command="bench"):
    """Tell the user something beside the results."""
    print(f"nbprop {command}: {text}", file=sys.stderr, flush=True)
