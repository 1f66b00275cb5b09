"""Print results as a table, row by row as they come, or as JSON."""

import json

from nbprop.bench.contest import geometric_mean

__all__ = ["header", "line", "means", "to_json"]


def header(peer="torch"):
    """The table's first line."""
    return (f"{'row':<13} {'pass':<16} {'ours':>10} {peer:>10} {f'{peer}/ours':>10} {'GFLOP/s':>8} "
            f"{'of peak':>8} {'GB/s':>7} {'of copy':>8}  {peer} format")


def line(result, peak):
    """One row; `peak` in GFLOP/s."""
    of_peak = result.gflops and result.gflops / peak
    return (f"{result.name:<13} {result.pass_:<16} {_ms(result.ours_s)} {_ms(result.peer_s)} "
            f"{_or_dash(result.ratio, '10.2f')} {_or_dash(result.gflops, '8.1f')} "
            f"{_or_dash(of_peak, '8.0%')} {result.gbytes:7.1f} {result.of_copy:8.0%}  {result.format or '-'}")


def means(results, peer="torch"):
    """Geometric means of the ratio, by pass and over all rows; nothing without a peer."""
    passes = dict.fromkeys(r.pass_ for r in results)
    groups = [(p, [r.ratio for r in results if r.pass_ == p and r.ratio]) for p in passes]
    groups.append(("all", [r.ratio for r in results if r.ratio]))
    if len(passes) == 1:
        del groups[0]
    mean = f"geometric mean of {peer}/ours"
    return [f"{mean}, {name}: {geometric_mean(ratios):.2f}" for name, ratios in groups if ratios]


def to_json(results):
    """One JSON list with an object per result."""
    return json.dumps([r.as_json() for r in results], indent=1)


def _ms(seconds):
    return _or_dash(None if seconds is None else seconds * 1e3, "7.3f", " ms")


def _or_dash(value, form, unit=""):
    width = int(form.split(".")[0]) + len(unit)
    return "-".rjust(width) if value is None else f"{value:{form}}{unit}"
