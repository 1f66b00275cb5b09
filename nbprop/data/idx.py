"""IDX files, plain or .gz: the form that MNIST comes in (http://yann.lecun.com/exdb/mnist).

    2 zero bytes | 1 byte: value type | 1 byte: number of axes | a big-endian uint32 per axis | the values
"""

import gzip
import math
import pathlib
import zlib

import numpy as np

__all__ = ["read_idx"]

_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_DEFLATE_LIMIT = 1032  # no .gz holds more than this many times its own size: a bound on what to allocate


def read_idx(path):
    """Return the array that an IDX file holds, in the machine's byte order.

    Parameters
    ----------
    path : str or path
        The file; one whose name ends in .gz is decompressed.

    Raises
    ------
    FileNotFoundError, ValueError
        If the file is missing, is not IDX, or is shorter or longer than its own header says.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; expected an IDX file there: check the folder's name")
    packed = path.suffix == ".gz"
    limit = path.stat().st_size * (_DEFLATE_LIMIT if packed else 1)
    try:
        with gzip.open(path) if packed else open(path, "rb") as file:
            return _read(path, file, limit)
    except (EOFError, zlib.error, gzip.BadGzipFile) as e:
        raise ValueError(f"{path} ({path.stat().st_size:,} bytes) cannot be decompressed ({e}): it is cut or "
                         "damaged, fetch it again") from None


def _read(path, file, limit):
    head = file.read(4)
    if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in _TYPES:
        raise ValueError(f"{path} begins with the bytes {head.hex(' ') or '(none)'}; expected an IDX file's "
                         "00 00, type and number of axes: it is cut or another kind of file")
    axes = file.read(4 * head[3])
    if len(axes) < 4 * head[3]:
        raise ValueError(f"{path} ends inside its header of {4 + 4 * head[3]} bytes: it is cut, fetch it "
                         "again")
    shape = tuple(np.frombuffer(axes, ">u4").tolist())
    dtype = np.dtype(_TYPES[head[2]])
    header, size = 4 + len(axes), math.prod(shape) * dtype.itemsize
    if header + size > limit:
        raise _wrong_size(path, shape, size, "fewer bytes")
    array = np.empty(math.prod(shape), dtype)
    came = _fill(file, memoryview(array.view(np.uint8)))
    if came < size or file.read(1):
        raise _wrong_size(path, shape, size, f"{came:,} bytes" if came < size else "more")
    return array.astype(dtype.newbyteorder("="), copy=False).reshape(shape)


def _wrong_size(path, shape, size, came):
    return ValueError(f"{path} holds {came}; expected {size:,} bytes of values "
                      f"({' x '.join(map(str, shape))} by its header): it is cut or damaged, fetch it again")


def _fill(file, view):
    """Read until `view` is full or the file ends; return the number of bytes read."""
    done = 0
    while done < len(view):
        got = file.readinto(view[done:])
        if not got:
            break
        done += got
    return done
