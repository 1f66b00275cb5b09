"""Pictures of benchmark results; wants matplotlib."""

import importlib.util
import math
import pathlib

from nbprop.bench.contest import geometric_mean

__all__ = ["bars", "check", "roofline"]

_COLOURS = ("tab:blue", "tab:orange", "tab:green", "tab:red", "tab:purple", "tab:brown", "tab:pink")
_MARKERS = "osD^vPX"
_ENDINGS = (".png", ".svg", ".pdf")


def check(path):
    """Refuse a picture that could not be written, before anything is measured for it.

    Raises
    ------
    ValueError
        If matplotlib is missing or the file's ending names no picture.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise ValueError("--plot needs matplotlib, which is not installed: pip install 'nbprop[plot]'")
    if pathlib.Path(path).suffix.lower() not in _ENDINGS:
        raise ValueError(f"--plot is {path}; expected a file name that ends in {', '.join(_ENDINGS)}")


def bars(results, path, peer="torch"):
    """Draw each result's ratio to the peer; without a peer GFLOP/s, and GB/s of what is not counted in operations."""
    compared = any(r.ratio for r in results)
    if compared:
        panels = [(f"{peer}'s time / ours: above 1 we are faster", results, lambda r: r.ratio)]
    else:
        panels = [("GFLOP/s", [r for r in results if r.flops], lambda r: r.gflops),
                  ("GB/s", [r for r in results if not r.flops], lambda r: r.gbytes)]  # fmt: skip
    panels = [panel for panel in panels if panel[1]]
    heights = [_rows_of_bars(shown) for _, shown, _ in panels]
    figure = _figure(8, 1.2 * len(panels) + 0.16 * sum(heights))
    grid = figure.subplots(len(panels), squeeze=False, height_ratios=heights)[:, 0]
    for axes, (label, shown, value) in zip(grid, panels):
        _bar_panel(axes, shown, value)
        axes.set_xlabel(label)
        if compared:
            mean = geometric_mean([r.ratio for r in shown])
            axes.axvline(1, color="black", linewidth=1)
            axes.axvline(mean, color="black", linewidth=1, linestyle="--")
            axes.set_xlabel(f"{label} (dashed: geometric mean, {mean:.2f})")
    figure.savefig(path, dpi=120)


def _rows_of_bars(results):
    return len(results) + len({r.name for r in results}) + 1


def _bar_panel(axes, results, value):
    """Draw horizontal bars from the top down, the passes of a row together."""
    passes = list(dict.fromkeys(r.pass_ for r in results))
    drawn, ticks, y, widest = set(), {}, 0, max(map(value, results))
    for i, result in enumerate(results):
        y += 2 if i and results[i - 1].name != result.name else 1
        label = None if result.pass_ in drawn else result.pass_
        drawn.add(result.pass_)
        axes.barh(y, value(result), 0.9, color=_COLOURS[passes.index(result.pass_)], label=label)
        number = f"{value(result):.2f}" if widest < 100 else f"{value(result):.0f}"
        axes.annotate(number, (value(result), y), xytext=(2, 0), textcoords="offset points", va="center", fontsize=7)
        ticks.setdefault(result.name, []).append(y)
    axes.set_yticks([sum(at) / len(at) for at in ticks.values()], list(ticks), fontsize=8)
    axes.set_ylim(y + 1, 0)
    axes.set_xlim(0, 1.1 * widest)
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    axes.legend(fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), ncols=min(len(passes), 3), frameon=False)


def roofline(points, peak, bandwidth, path):
    """Draw GFLOP/s over FLOP/byte under the roofs `peak` (GFLOP/s) and `bandwidth` (GB/s).

    Beside it stands GB/s of what is not counted in operations, under the roof of a copy.
    """
    counted, uncounted = [p for p in points if p.result.flops], [p for p in points if not p.result.flops]
    widths = [w for w, shown in ((11, counted), (4, uncounted)) if shown]
    figure = _figure(sum(widths), 7.5)
    grid = list(figure.subplots(1, len(widths), squeeze=False, width_ratios=widths)[0])
    if counted:
        _roofs(grid.pop(0), counted, peak, bandwidth)
    if uncounted:
        _traffic(grid.pop(0), uncounted)
    figure.savefig(path, dpi=120)


def _roofs(axes, points, peak, bandwidth):
    from matplotlib.ticker import LogLocator

    low, high = (f(p.intensity for p in points) for f in (min, max))
    low, high = min(low, peak / bandwidth) / 1.6, max(high, peak / bandwidth) * 1.6
    floor = min(p.result.gflops for p in points)
    axes.loglog([low, peak / bandwidth, high], [low * bandwidth, peak, peak], color="black", linewidth=1.5)
    passes = list(dict.fromkeys(p.result.pass_ for p in points))
    for i, pass_ in enumerate(passes):
        shown = [p for p in points if p.result.pass_ == pass_]
        axes.plot([p.intensity for p in shown], [p.result.gflops for p in shown], _MARKERS[i], color=_COLOURS[i],
                  markersize=6, markeredgecolor="white", markeredgewidth=0.5, label=pass_, zorder=3)  # fmt: skip
    bottom = min(floor, low * bandwidth) / 1.3
    axes.set_xlim(low, high)
    top = 1.5 * max(peak, *(p.result.gflops for p in points))
    axes.set_ylim(bottom / (top / bottom) ** 0.5, top)
    _names_below(axes, points)
    axes.set_xlabel("FLOP / byte (least traffic)\n"
                    f"roofs: {peak:.0f} GFLOP/s of multiply-adds and {bandwidth:.0f} GB/s of copying; "
                    "FLOPs are those of the direct sum, which Winograd's algorithm undercuts")  # fmt: skip
    axes.set_ylabel("GFLOP/s")
    axes.grid(which="both", alpha=0.15)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter("")
    axes.legend(fontsize=9, loc="lower left", bbox_to_anchor=(0, 1), ncols=len(passes), frameon=False)


def _names_below(axes, points):
    """Write the rows' names at the bottom, near below their points, each with a line up to them."""
    lowest = {}
    for p in sorted(points, key=lambda p: (p.intensity, p.result.gflops)):
        lowest.setdefault(p.result.name, p)
    left, right = map(math.log, axes.get_xlim())
    places = _apart([(math.log(p.intensity) - left) / (right - left) for p in lowest.values()])
    for at, (name, p) in zip(places, lowest.items()):
        top = max(q.result.gflops for q in points if q.result.name == name)
        axes.plot([p.intensity] * 2, [p.result.gflops, top], color="gray", linewidth=0.6, zorder=1)
        axes.annotate(name, (p.intensity, p.result.gflops), xytext=(at, 0.15), textcoords="axes fraction", rotation=90,
                      ha="center", va="top", fontsize=9, arrowprops={"arrowstyle": "-", "color": "gray",
                      "linewidth": 0.6, "shrinkB": 3, "relpos": (0.5, 1)})  # fmt: skip


def _apart(places):
    """Push rising places between 0 and 1 so far apart that names fit between them."""
    gap = min(0.03, 1 / (len(places) + 1))
    for i in range(1, len(places)):
        places[i] = max(places[i], places[i - 1] + gap)
    limit = 1 - gap / 2
    for i in reversed(range(len(places))):
        places[i] = limit = min(places[i], limit)
        limit -= gap
    return places


def _traffic(axes, points):
    """Draw a bar per row, and over it what a copy of as many bytes reached."""
    for i, p in enumerate(points):
        axes.bar(i, p.result.gbytes, 0.7, color=_COLOURS[0])
        axes.plot([i - 0.4, i + 0.4], [p.copy_gbytes] * 2, color="black", linewidth=1.5,
                  label=None if i else "a copy of as many bytes")  # fmt: skip
    axes.set_xticks(range(len(points)), [p.result.name for p in points], rotation=90, fontsize=9)
    axes.set_ylabel("GB/s (least traffic)")
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    axes.set_ylim(0, 1.15 * max(max(p.result.gbytes, p.copy_gbytes) for p in points))
    axes.legend(fontsize=9, loc="lower left", bbox_to_anchor=(0, 1), frameon=False)


def _figure(width, height):
    from matplotlib.figure import Figure  # not pyplot: no window system, no global state

    return Figure(figsize=(width, height), layout="constrained")
