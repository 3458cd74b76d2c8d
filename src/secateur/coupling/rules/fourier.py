"""Complex numbers and Fourier transforms: rotations written as complex products, mixing by frequency."""

from __future__ import annotations

from secateur.coupling.facts import Axes, Facts
from secateur.coupling.rules.pointwise import keep, pointwise
from secateur.coupling.values import Arguments, op_name

_FREQUENCY = "a Fourier transform mixes along it"


def as_complex(f: Facts, a: Arguments) -> Axes:
    """``[..., 2]``, real and imaginary parts, as complex numbers."""
    f.pin(a.self[-1], "it holds the real and the imaginary part")
    return a.self.axes[:-1]


def as_real(f: Facts, a: Arguments) -> Axes:
    """The reverse."""
    return (*a.self.axes, f.pinned(2))


def transform(f: Facts, a: Arguments) -> Axes:
    """Any transform: the axes that it runs along are pinned, the others stay."""
    given = a.get("dim")
    if given is None:
        sizes = a.get("s")
        dims = set(range(len(a.self) - len(sizes), len(a.self)) if sizes else range(len(a.self)))
    else:
        dims = {d % len(a.self) for d in (given if isinstance(given, list) else [given])}
    out = []
    for i, axis in enumerate(a.self.axes):
        if i in dims:
            f.pin(axis, _FREQUENCY if "shift" not in op_name(a.node) else "the operator shifts along it")
            axis = f.pinned(a.shape[i])
        out.append(axis)
    return tuple(out)


TABLE = {
    "aten::view_as_complex": as_complex,
    "aten::view_as_real": as_real,
    **dict.fromkeys(("aten::complex", "aten::polar"), pointwise),
    **dict.fromkeys(("aten::real", "aten::imag", "aten::conj", "aten::_conj", "aten::conj_physical"), keep),
    **dict.fromkeys(
        (
            f"aten::fft_{kind}{rank}"
            for kind in ("fft", "ifft", "rfft", "irfft", "hfft", "ihfft", "fftshift", "ifftshift")
            for rank in ("", "2", "n")
        ),
        transform,
    ),
}
