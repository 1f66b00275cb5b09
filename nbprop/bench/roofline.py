"""`nbprop roofline`: each row of the benchmark under what the machine can do at most, measured in the same run."""

import json
from typing import NamedTuple

from nbprop.bench.contest import Result

__all__ = ["Point", "add_parser", "roofline"]

_COPY = 1 << 28  # bytes that the memory roof's copy moves: more than the caches hold


class Point(NamedTuple):
    """A result and its roofs: `peak` in GFLOP/s, and the GB/s of a copy of as many bytes."""

    result: Result
    peak: float

    @property
    def copy_gbytes(self):
        """10^9 bytes per second."""
        return self.result.bytes / self.result.copy_s / 1e9

    @property
    def intensity(self):
        """Operations per byte of the least traffic; 0 where operations are not counted."""
        return self.result.flops / self.result.bytes

    @property
    def of_roof(self):
        """The share of what peak and copy together allow."""
        if not self.result.flops:
            return self.result.of_copy
        return self.result.gflops / min(self.peak, self.intensity * self.copy_gbytes)

    def as_json(self):
        """Return the fields that `--json` prints."""
        r = self.result
        return {"name": r.name, "pass": r.pass_, "seconds": r.ours_s, "intensity": self.intensity or None,
                "gflops": r.gflops, "gbytes": r.gbytes, "copy_gbytes": self.copy_gbytes, "of_roof": self.of_roof}


def add_parser(commands):
    """Add the command."""
    parser = commands.add_parser(
        "roofline", help="measure the kernels against this machine's peaks",
        description="Time the rows of the benchmark, the bare micro-kernel and copies of the same sizes in one run: "
        "what share of the multiply-adds and of the memory's bandwidth each one uses. Bytes are the least that the "
        "work must move.")  # fmt: skip
    parser.add_argument("rows", nargs="*", metavar="ROW", help="names of rows, as `nbprop bench all` prints them")
    parser.add_argument("--threads", type=int, metavar="N", help="default: all")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.add_argument("--plot", metavar="FILE", help="draw it (.png, .svg or .pdf)")
    parser.set_defaults(run=lambda args: roofline(args.rows, args.threads, args.json, args.plot))


def roofline(names=(), threads=None, as_json=False, plot=None):
    """Run rows of the suite and print them; return 0, or 1 where a result was wrong.

    Raises
    ------
    ValueError
        If a row is unknown, there are too few threads, or the picture cannot be drawn.
    """
    from nbprop import jit
    from nbprop.bench import cli, clock, peak, peer, picture
    from nbprop.bench.contest import WrongResult

    if plot:
        picture.check(plot)
    threads = jit.threads() if threads is None else threads
    torch = peer.find_torch()  # checks the results alone; without it our reference loops do, slowly
    peer.set_threads(threads, torch)
    contests = cli.contests("all", names, torch)
    ceiling, bandwidth = peak.peak_gflops(threads), _COPY / clock.median(peak.copying(_COPY, threads)) / 1e9
    show = (lambda text: None) if as_json else (lambda text: print(text, flush=True))
    show(f"{threads} threads, float32; peak {ceiling:.0f} GFLOP/s; a copy of {_COPY / 2**20:.0f} MiB {bandwidth:.0f} "
         f"GB/s; of roof: of the lower of peak and FLOP/byte x copy")  # fmt: skip
    show(f"{'row':<13} {'pass':<16} {'FLOP/byte':>9} {'GFLOP/s':>8} {'of peak':>8} {'GB/s':>7} {'of copy':>8} "
         f"{'of roof':>8}")  # fmt: skip
    try:
        points = [_measured(contest, ceiling, threads, show) for contest in contests]
    except WrongResult as e:
        cli.note(str(e), "roofline")
        return 1
    if as_json:
        print(json.dumps({"threads": threads, "peak_gflops": ceiling, "copy_gbytes": bandwidth,
                          "rows": [p.as_json() for p in points]}, indent=1))  # fmt: skip
    if plot:
        picture.roofline(points, ceiling, bandwidth, plot)
    return 0


def _measured(contest, ceiling, threads, show):
    """Time ours beside a copy, without peers, show its line, and return its point."""
    from nbprop.bench import peak
    from nbprop.bench.contest import run

    result = run(contest._replace(peers={}), lambda nbytes: peak.copying(nbytes, threads))
    point = Point(result, ceiling)
    counted = f"{point.intensity:9.1f} {result.gflops:8.1f} {result.gflops / ceiling:8.0%}" if result.flops else (
        f"{'-':>9} {'-':>8} {'-':>8}")  # fmt: skip
    show(f"{result.name:<13} {result.pass_:<16} {counted} {result.gbytes:7.1f} "
         f"{result.of_copy:8.0%} {point.of_roof:8.0%}")  # fmt: skip
    return point
