"""Where a model is to run, and in which dtype."""

from __future__ import annotations

from dataclasses import dataclass

from secateur.deploy.runtimes import runtime_named
from secateur.errors import MissingExtra, UnknownName

ANY = "auto"
CHOICES: dict[str, tuple[str, ...]] = {
    "onnxruntime": (ANY, "fp32", "int8"),
    "openvino": (ANY, "fp32", "int8"),
    "torch": ("fp32",),
    ANY: (ANY, "fp32", "int8"),
}
# What ``auto`` chooses from; torch, which runs a program call by call, is there to compare with.
RIVALS = ("onnxruntime", "openvino")


@dataclass(frozen=True)
class Target:
    """A runtime and a dtype.

    The dtype ``auto`` takes INT8 where it measures faster than fp32; the runtime ``auto`` is the one installed here in
    which the dense model measures fastest, in a dtype that is asked for.
    """

    runtime: str = "onnxruntime"
    dtype: str = ANY

    def __post_init__(self) -> None:
        if self.dtype not in CHOICES.get(self.runtime, ()):
            offered = ", ".join(str(known) for known in targets())
            raise UnknownName(f"no target {self.runtime}:{self.dtype}; this version has {offered}")

    @classmethod
    def parse(cls, text: str) -> Target:
        """Reads ``runtime:dtype``; the runtime alone means its first dtype, so ``auto`` leaves both open.

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
        return ("fp32", "int8") if self.dtype == ANY else (self.dtype,)

    @property
    def open(self) -> bool:
        """Whether the runtime is still to be chosen."""
        return self.runtime == ANY

    def rivals(self) -> tuple[Target, ...]:
        """The targets to choose from, by runtimes that are installed; itself where the runtime is named.

        Raises:
            MissingExtra: none is installed.
        """
        if not self.open:
            return (self,)
        found = tuple(Target(name, self.dtype) for name in RIVALS if runtime_named(name).available())
        if not found:
            raise MissingExtra("onnxruntime", "onnx", f"the target {self}")
        return found

    def __str__(self) -> str:
        return ANY if (self.runtime, self.dtype) == (ANY, ANY) else f"{self.runtime}:{self.dtype}"


def targets() -> list[Target]:
    """Every target that there is."""
    return [Target(runtime, dtype) for runtime, dtypes in CHOICES.items() for dtype in dtypes]
