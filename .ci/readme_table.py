"""Write the README's measured table from what `nbprop bench --json` printed.

    nbprop bench conv --vs torch --json > conv.json
    nbprop bench ops --vs torch --json > ops.json
    nbprop bench step --vs torch --json > step.json
    python .ci/readme_table.py "2 threads of an AMD EPYC (Zen 5), torch 2.13.0" conv.json ops.json step.json
"""

import json
import pathlib
import re
import sys

PASSES = {"forward": "forward", "backward_input": "input gradient", "backward_weight": "weight gradient",
          "forward+backward": "forward and backward", "value+gradient": "value and gradient", "update": "update",
          "step": "training step"}  # fmt: skip


def cell(result):
    """The ratio where there was a peer, and our speed."""
    ratio = "" if result["ratio"] is None else f"**{result['ratio']:.2f}** · "
    if result["gflops"] is None:
        return f"{ratio}{result['gbytes']:.0f} GB/s"
    return f"{ratio}{result['gflops']:.0f} GFLOP/s"


def table(results):
    """A row per name, a column per pass."""
    by_name = {}
    for result in results:
        by_name.setdefault(result["name"], {})[result["pass"]] = cell(result)
    passes = [p for p in PASSES if any(p in cells for cells in by_name.values())]
    yield f"| | {' | '.join(PASSES[p] for p in passes)} |"
    yield "|---" * (len(passes) + 1) + "|"
    for name, cells in by_name.items():
        yield f"| {name} | {' | '.join(cells.get(p, '') for p in passes)} |"


def main(machine, *files):
    lines = [f"Torch's time by ours, and our speed, on {machine}:"]
    for file in files:
        lines += ["", *table(json.loads(pathlib.Path(file).read_text("utf-8")))]
    readme = pathlib.Path(__file__).parents[1] / "README.md"
    text = readme.read_text("utf-8")
    new, count = re.subn(r"(<!-- bench: .*? -->\n).*?(<!-- bench end -->)",
                         lambda m: m[1] + "\n".join(lines) + "\n" + m[2], text, flags=re.DOTALL)
    if count != 1:
        sys.exit("README.md has no section between the two bench comments")
    readme.write_text(new, "utf-8")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
