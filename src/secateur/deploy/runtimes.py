"""The runtimes that there are, by name."""

from __future__ import annotations

from secateur.deploy.openvino_runtime import OpenVinoRuntime
from secateur.deploy.runtime import OnnxRuntime, Runtime, TorchRuntime
from secateur.errors import UnknownName

runtimes: dict[str, Runtime] = {
    runtime.name: runtime for runtime in (OnnxRuntime(), OpenVinoRuntime(), TorchRuntime())
}


def runtime_named(name: str) -> Runtime:
    """The runtime of that name.

    Raises:
        UnknownName: there is none; the message lists those that exist.
    """
    if name not in runtimes:
        raise UnknownName(f"no runtime {name!r}; this version has {', '.join(runtimes)}")
    return runtimes[name]
