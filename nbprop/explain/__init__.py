"""What each op computes, where it comes from and how its gradient is derived: the texts of `nbprop explain`.

The .toml files here hold one table per op; what stands above a file's tables holds for all of them. The loops
themselves, and the longer derivations, are in the reference kernels that they name.
"""

import functools
import pathlib
import tomllib
from typing import NamedTuple

__all__ = ["Entry", "entries", "find", "listing", "text"]

_DOCUMENTS = {
    "000": "Back propagation reference (2017)",
    "001": "Backpropagations in Deep Neural Network, focused on Convolutional NN (K. Lee, 2021)",
    "002": "Back Propagation (Chen Si)",
    "003": "Back Propagation Summary",
    "004": "Backpropagation Guide, COMS 4732 (J. Shah)",
}


class Entry(NamedTuple):
    """One op. `sources` are places in the seeds ("000 2.1, equations 4 to 6") or papers.

    `names` are dotted names below nbprop; `reference` is "path: function" of the loops that read like the
    derivation.
    """

    op: str
    names: list
    sources: list
    symbols: str
    formula: str
    gradient: str
    reference: str
    erratum: str = ""


@functools.cache
def entries():
    """Return {op: Entry} of all ops."""
    found = {}
    for path in sorted(pathlib.Path(__file__).parent.glob("*.toml")):
        content = tomllib.loads(path.read_text("utf-8"))
        shared = {key: value for key, value in content.items() if not isinstance(value, dict)}
        tables = {op: table for op, table in content.items() if isinstance(table, dict)}
        found |= {op: Entry(op, **{key: _stripped(v) for key, v in (shared | table).items()})
                  for op, table in tables.items()}  # fmt: skip
    return found


def find(op):
    """Return the entry of an op, by its own name or by that of one of its functions or classes, in any case.

    Raises
    ------
    ValueError
        If there is none; names those that are alike.
    """
    wanted = op.lower().removeprefix("nbprop.")
    for entry in entries().values():
        full = [name.lower() for name in (entry.op, *entry.names)]
        if wanted in full or wanted in [name.rpartition(".")[2] for name in full]:
            return entry
    raise ValueError(f"op is {op!r}; expected one of those that `nbprop explain` lists{_alike(wanted)}")


def text(op):
    """Return an op's entry as lines to read."""
    entry = find(op)
    parts = {
        "names": "\n".join(f"nbprop.{name}" for name in entry.names),
        "source": "\n".join(f"seed {s}" if s[:3].isdigit() else s for s in entry.sources),
        "formula": entry.formula, "symbols": entry.symbols, "gradient": entry.gradient,
        "reference": entry.reference, "erratum": entry.erratum,
    }  # fmt: skip
    lines = [entry.op]
    for label, part in parts.items():
        for i, line in enumerate(part.splitlines()):
            lines.append(f"  {'' if i else label:<9}  {line}".rstrip())
    return "\n".join(lines)


def listing():
    """Return all ops as lines to read, by seed and section; an op stands under each that it implements."""
    lines = []
    for document, title in _DOCUMENTS.items():
        places = {}
        for entry in entries().values():
            for source in entry.sources:
                if source.startswith(document):
                    places.setdefault(source.removeprefix(f"{document} "), []).append(entry.op)
        lines += [f"seed {document}, {title}"]
        lines += [f"  {place:<46}  {', '.join(ops)}" for place, ops in sorted(places.items())]
    others = [e.op for e in entries().values() if not any(s[:3].isdigit() for s in e.sources)]
    return "\n".join([*lines, "beyond the seeds", f"  {', '.join(others)}", "nbprop explain OP says more"])


def _stripped(value):
    return value.strip("\n") if isinstance(value, str) else value


def _alike(wanted):
    import difflib

    known = {name.rpartition(".")[2].lower() for e in entries().values() for name in (e.op, *e.names)}
    close = difflib.get_close_matches(wanted, known, n=3)
    return f"; like it are {', '.join(close)}" if close else ""
