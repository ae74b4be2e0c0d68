"""ICC profiles for colours that a file describes in another way: by primaries and a gamma, or by a code point.

Computed as in ICC.1:2022 for matrix/TRC displays: primaries and white to XYZ, adapted to D50 (Bradford).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

Pair = tuple[float, float]
Vector = tuple[float, float, float]
Matrix = tuple[Vector, Vector, Vector]

D65: Pair = (0.3127, 0.3290)
SRGB_PRIMARIES: tuple[Pair, Pair, Pair] = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
P3_PRIMARIES: tuple[Pair, Pair, Pair] = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
ADOBE_PRIMARIES: tuple[Pair, Pair, Pair] = ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06))
BT2020_PRIMARIES: tuple[Pair, Pair, Pair] = ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046))

_D50: Vector = (0.9642, 1.0, 0.8249)
_BRADFORD: Matrix = ((0.8951, 0.2664, -0.1614), (-0.7502, 1.7135, 0.0367), (0.0389, -0.0685, 1.0296))


def matrix_profile(primaries: tuple[Pair, Pair, Pair], white: Pair, gamma: float | None) -> bytes:
    """Returns the profile of an RGB space; no gamma means sRGB's curve. Raises ValueError for impossible primaries."""
    columns = [_xyz(pair) for pair in primaries]
    strengths = _apply(_inverse(_transposed(columns)), _xyz(white))
    to_d50 = _adaptation(_xyz(white))
    colorants = [_apply(to_d50, _scaled(one, by)) for one, by in zip(columns, strengths, strict=True)]
    curve = _srgb_curve() if gamma is None else _gamma_curve(gamma)
    tags = [(b"wtpt", _xyz_tag(_D50))]
    tags += [(name + b"XYZ", _xyz_tag(one)) for name, one in zip((b"r", b"g", b"b"), colorants, strict=True)]
    tags += [(name + b"TRC", curve) for name in (b"r", b"g", b"b")]
    return _profile(tags)


def _profile(tags: Sequence[tuple[bytes, bytes]]) -> bytes:
    at = 128 + 4 + 12 * len(tags)
    table, bodies = [], []
    for name, body in tags:
        table.append(name + struct.pack(">II", at, len(body)))
        bodies.append(body + b"\0" * (-len(body) % 4))
        at += len(bodies[-1])
    head = struct.pack(">I4sI4s4s4s", at, b"\0\0\0\0", 0x02400000, b"mntr", b"RGB ", b"XYZ ")
    head += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + b"\0" * 28 + _fixed(_D50)
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + b"".join(table) + b"".join(bodies)


def _xyz_tag(value: Vector) -> bytes:
    return b"XYZ \0\0\0\0" + _fixed(value)


def _fixed(values: Sequence[float]) -> bytes:
    return b"".join(struct.pack(">i", round(value * 65536)) for value in values)


def _gamma_curve(gamma: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256))


def _srgb_curve() -> bytes:
    points = [value / 1023 for value in range(1024)]
    linear = [point / 12.92 if point <= 0.04045 else ((point + 0.055) / 1.055) ** 2.4 for point in points]
    return b"curv\0\0\0\0" + struct.pack(">I1024H", 1024, *(round(value * 65535) for value in linear))


def _xyz(pair: Pair) -> Vector:
    x, y = pair
    if y <= 0:
        raise ValueError("no colour has this chromaticity")
    return x / y, 1.0, (1 - x - y) / y


def _adaptation(white: Vector) -> Matrix:
    source, target = _apply(_BRADFORD, white), _apply(_BRADFORD, _D50)
    rows = [_scaled(row, to / of) for row, to, of in zip(_BRADFORD, target, source, strict=True)]
    columns = [_apply(_inverse(_BRADFORD), column) for column in _transposed(rows)]
    return _transposed(columns)


def _apply(matrix: Matrix, vector: Vector) -> Vector:
    x, y, z = (sum(one * other for one, other in zip(row, vector, strict=True)) for row in matrix)
    return x, y, z


def _scaled(vector: Vector, factor: float) -> Vector:
    return vector[0] * factor, vector[1] * factor, vector[2] * factor


def _transposed(rows: Sequence[Vector]) -> Matrix:
    (a, b, c), (d, e, f), (g, h, i) = rows
    return (a, d, g), (b, e, h), (c, f, i)


def _inverse(matrix: Matrix) -> Matrix:
    (a, b, c), (d, e, f), (g, h, i) = matrix
    cofactors: Matrix = (
        (e * i - f * h, c * h - b * i, b * f - c * e),
        (f * g - d * i, a * i - c * g, c * d - a * f),
        (d * h - e * g, b * g - a * h, a * e - b * d),
    )
    determinant = a * cofactors[0][0] + b * cofactors[1][0] + c * cofactors[2][0]
    if abs(determinant) < 1e-9:
        raise ValueError("the primaries lie on a line")
    first, second, third = (_scaled(row, 1 / determinant) for row in cofactors)
    return first, second, third


ADOBE_RGB = matrix_profile(ADOBE_PRIMARIES, D65, 563 / 256)
