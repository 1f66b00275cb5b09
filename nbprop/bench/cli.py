"""The command `nbprop bench`."""

import sys
from types import SimpleNamespace

__all__ = ["add_parser", "bench"]


def add_parser(subparsers):
    """Add `bench` to the commands of `nbprop`; it runs as `args.run(args)` and returns an exit code."""
    parser = subparsers.add_parser(
        "bench", help="time the kernels, alone or against PyTorch",
        description="Time named convolutions, operations bound by memory, or training steps. Each result is "
        "checked against float64 first; ours and the peer's are timed in turns, 7 rounds of at least 50 ms "
        "each, and the medians are printed.")
    parser.add_argument("what", choices=["conv", "ops", "step", "all"],
                        help="convolutions, what is bound by memory, whole training steps, or all three")
    parser.add_argument("rows", nargs="*", metavar="ROW", help="names of rows (default: all)")
    parser.add_argument("--vs", choices=["torch"], help="time this library too, in its better memory format")
    parser.add_argument("--threads", type=int, metavar="N", help="threads for both sides (default: all)")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu",
                        help="cuda: on a GPU, by its events, on batches larger than its cache")
    parser.add_argument("--json", action="store_true", help="print one JSON list instead of a table")
    parser.set_defaults(run=lambda args: bench(args.what, args.rows, args.vs, args.threads, args.json,
                                                 args.device))
    return parser


def bench(what, names=(), vs=None, threads=None, as_json=False, device="cpu"):
    """Run rows of the suite and print them; return 0, or 1 where a result was wrong.

    Raises
    ------
    ValueError
        If a row is unknown, there are too few threads, or there is no GPU where `device` is "cuda".
    """
    from nbprop import jit
    from nbprop.bench import peer, report
    from nbprop.bench.contest import WrongResult, run

    threads = jit.threads() if threads is None else threads
    torch = peer.find_torch() if vs else None
    if vs and torch is None:
        _note("torch is not installed (pip install torch): timing ours alone")
    peer.set_threads(threads, torch)
    limits = _on_gpu(torch) if device == "cuda" else _on_cpu(threads)
    table = (lambda text: None) if as_json else (lambda text: print(text, flush=True))

    results = []
    try:
        contests = _contests(what, names, torch, device)
        ceiling = limits.peak_gflops()
        table(limits.title.format(ceiling))
        table(report.header())
        for contest in contests:
            results.append(run(contest, **limits.race))
            table(report.line(results[-1], ceiling, limits.copy_seconds(contest.bytes)))
    except WrongResult as e:
        _note(str(e))
        return 1
    for text in report.means(results):
        table(text)
    if as_json:
        print(report.to_json(results))
    return 0


def _on_cpu(threads):
    """Say how to time, and what the machine can do at most."""
    from nbprop.bench import peak

    return SimpleNamespace(
        title=f"{threads} threads, float32; the bare micro-kernel runs at {{:.0f}} GFLOP/s", race={},
        peak_gflops=lambda: peak.peak_gflops(threads), copy_seconds=lambda size: peak.copy_seconds(size, threads))


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
    return SimpleNamespace(title=title, race=race, peak_gflops=on_gpu.peak_gflops, copy_seconds=on_gpu.copy_seconds)


def _contests(what, names, torch, device):
    """Pick the rows; names are checked here and now, data is drawn as each row's turn comes."""
    from nbprop.bench import conv, on_gpu, ops, step, suite

    kinds = {"conv": (suite.conv_rows(), conv), "ops": (suite.memory_bound_shapes(), ops),
             "step": (suite.net_rows(), step)}  # fmt: skip
    chosen = kinds.values() if what == "all" else [kinds[what]]
    rows = {name: (row, kind) for named, kind in chosen for name, row in named.items()}
    rows = suite.select(rows, names)
    for name, (row, kind) in list(rows.items()):
        if kind is step and (reason := step.missing(name, row)):
            _note(f"{name} skipped: {reason}")
            del rows[name]
    if device == "cuda":
        rows = {name: (on_gpu.gpu_row(name, row), kind) for name, (row, kind) in rows.items()}
    return (contest for name, (row, kind) in rows.items() for contest in kind.contests(name, row, torch, device))


def _note(text):
    print(f"nbprop bench: {text}", file=sys.stderr, flush=True)
