"""Where a model is to run, and in which dtype."""

from __future__ import annotations

from dataclasses import dataclass

from secateur.errors import UnknownName

CHOICES: dict[str, tuple[str, ...]] = {"onnxruntime": ("auto", "fp32", "int8"), "torch": ("fp32",)}


@dataclass(frozen=True)
class Target:
    """A runtime and a dtype; ``auto`` takes INT8 where it measures faster than fp32."""

    runtime: str = "onnxruntime"
    dtype: str = "auto"

    def __post_init__(self) -> None:
        if self.dtype not in CHOICES.get(self.runtime, ()):
            offered = ", ".join(
                f"{runtime}:{dtype}" for runtime, dtypes in CHOICES.items() for dtype in dtypes
            )
            raise UnknownName(f"no target {self.runtime}:{self.dtype}; this version has {offered}")

    @classmethod
    def parse(cls, text: str) -> Target:
        """Reads ``runtime:dtype``; the runtime alone means its first dtype.

        Raises:
            UnknownName: there is no such target; the message lists those that exist.
        """
        runtime, _, dtype = text.strip().partition(":")
        if not dtype and runtime in CHOICES:
            dtype = CHOICES[runtime][0]
        return cls(runtime, dtype)

    @property
    def dtypes(self) -> tuple[str, ...]:
        """The dtypes to be built and measured: both for ``auto``."""
        return ("fp32", "int8") if self.dtype == "auto" else (self.dtype,)

    def __str__(self) -> str:
        return f"{self.runtime}:{self.dtype}"
