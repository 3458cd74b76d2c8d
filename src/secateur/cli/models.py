"""Names of models to models: the user's own code, timm, torchvision, Hugging Face, and ``.pt2`` files.

Nothing is ever unpickled, and no remote code is run: weights come from safetensors or through torch's restricted
reader, and a ``.pt2`` that carries pickled payloads is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn

from secateur.cli.objects import called, closest, has_package, import_object, told
from secateur.cli.weights import load_weights_
from secateur.errors import CorruptFile, MissingExtra, NotFinite, RecipeError, UnknownName, UnsafeFile

FORMS = "package.module:callable, timm:NAME, torchvision:NAME, hf:NAME_OR_PATH or a .pt2 file"


def resolve_model(
    name: str,
    model_args: Mapping[str, Any] | None = None,
    weights: str | Path | None = None,
    pretrained: bool = False,
) -> nn.Module:
    """The model that a name on the command line stands for, in evaluation mode.

    Args:
        name: one of the forms of the contract.
        model_args: keyword arguments for the callable, or for timm's and torchvision's constructor.
        weights: a safetensors or ``.pth`` file that replaces the weights.
        pretrained: ask timm and torchvision for their trained weights (downloaded by them); a Hugging Face model
            always has its own.

    Raises:
        UnknownName: no such model; the message has the closest names.
        MissingExtra: the package behind the form is not installed, or does not load here.
        RecipeError: the callable fails, or gives no ``nn.Module``.
        UnsafeFile, CorruptFile: a file that would have to be unpickled, or that is truncated or does not fit.
        NotFinite: the weights hold NaN or infinity.
    """
    arguments = dict(model_args or {})
    scheme, colon, rest = name.partition(":")
    if name.endswith(".pt2"):
        if arguments:
            raise RecipeError(f"model {name!r} is an exported program and takes no --model-args")
        model = _pt2(Path(name))
    elif colon and scheme in _SCHEMES and rest:
        model = _SCHEMES[scheme](rest, arguments, pretrained)
    elif colon and rest:
        model = called(import_object(name, "model"), name, "model", arguments)
    else:
        raise UnknownName(f"model {name!r} has none of the forms {FORMS}{closest(name, _SCHEMES)}")
    if not isinstance(model, nn.Module):
        raise RecipeError(f"model {name!r} gave {type(model).__name__}; an nn.Module is expected")
    if weights is not None:
        load_weights_(model, Path(weights))
    check_finite(model, str(weights) if weights is not None else name)
    return model.eval()


def check_finite(model: nn.Module, where: str) -> None:
    """Parameters and buffers must be finite; lazily built ones must have been built.

    Raises:
        NotFinite: one holds NaN or infinity (buffers with infinity are masks and pass).
        RecipeError: a lazy parameter has no shape yet.
    """
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if nn.parameter.is_lazy(tensor):
            raise RecipeError(
                f"{where}: {name} has no shape yet; run the lazy module once before giving it here"
            )
        if tensor.device.type == "meta" or not tensor.is_floating_point():
            continue
        masked = not isinstance(tensor, nn.Parameter)
        bad = torch.isnan(tensor) if masked else ~torch.isfinite(tensor)
        if bool(bad.any()):
            raise NotFinite(
                f"{where}: {int(bad.sum())} values of {name} are NaN or infinite; the weights are damaged"
            )


def _timm(name: str, arguments: dict[str, Any], pretrained: bool) -> Any:
    timm = _loaded("timm", f"model timm:{name}")
    if not timm.models.is_model(name.split(".")[0]):
        raise UnknownName(f"timm has no model {name!r}{closest(name, timm.list_models())}")
    return called(
        lambda **given: timm.create_model(name, pretrained=pretrained, **given),
        f"timm:{name}",
        "model",
        arguments,
    )


def _torchvision(name: str, arguments: dict[str, Any], pretrained: bool) -> Any:
    torchvision = _loaded("torchvision", f"model torchvision:{name}")
    names = torchvision.models.list_models()
    if name not in names:
        raise UnknownName(f"torchvision has no model {name!r}{closest(name, names)}")
    if "init_weights" not in arguments and name in ("googlenet", "inception_v3"):
        arguments["init_weights"] = False  # else torchvision warns, and takes half a minute through scipy
    weights = "DEFAULT" if pretrained else None
    return called(
        lambda **given: torchvision.models.get_model(name, weights=weights, **given),
        f"torchvision:{name}",
        "model",
        arguments,
    )


def _huggingface(name: str, arguments: dict[str, Any], pretrained: bool) -> Any:
    transformers = _loaded("transformers", f"model hf:{name}")
    folder = Path(name)
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise UnknownName(
            f"model hf:{name}: the folder has no config.json; is it one that save_pretrained wrote?"
        )
    try:
        config = transformers.AutoConfig.from_pretrained(name, trust_remote_code=False)
    except Exception as error:
        raise UnknownName(
            f"model hf:{name} was not found, neither as a folder nor on the hub: {told(error)}"
        ) from error
    kind = next((k for k in config.architectures or () if hasattr(transformers, k)), "AutoModel")
    cls = getattr(transformers, kind)
    try:
        return cls.from_pretrained(name, config=config, use_safetensors=True, **arguments)
    except Exception as error:
        if folder.is_dir() and not any(folder.glob("*.safetensors")):
            if any(folder.glob("*.bin")):
                raise UnsafeFile(
                    f"model hf:{name} has weights only as pytorch_model.bin, which would have to be unpickled; save it "
                    "again with save_pretrained(folder, safe_serialization=True)"
                ) from error
            raise CorruptFile(
                f"model hf:{name}: the folder has no *.safetensors file with the weights"
            ) from error
        if type(error).__name__ == "SafetensorError":
            raise CorruptFile(
                f"model hf:{name}: its weight file is truncated or was altered ({told(error)})"
            ) from error
        raise RecipeError(f"model hf:{name}: loading it as {kind} failed with {told(error)}") from error


_SCHEMES: dict[str, Callable[[str, dict[str, Any], bool], Any]] = {
    "timm": _timm,
    "torchvision": _torchvision,
    "hf": _huggingface,
}


def _pt2(path: Path) -> nn.Module:
    from secateur import deploy

    if not path.is_file():
        raise UnknownName(f"model {str(path)!r}: there is no such file")
    module = deploy.load_pt2(path).program.module(check_guards=False)
    # The module of a program refuses train() and eval(); as a plain graph module it takes them, with its mode baked in.
    return fx.GraphModule(module, module.graph)


def _loaded(package: str, purpose: str) -> Any:
    """The package, or what to do about it.

    A torchvision that was built for another torch raises while it is imported (its operators are not defined), and
    takes timm and parts of transformers with it: that is told apart from a package that is not there.
    """
    import importlib

    if not has_package(package):
        raise MissingExtra(package, package, purpose)
    try:
        return importlib.import_module(package)
    except Exception as error:
        culprit = "torchvision" if "torchvision" in str(error) else package
        raise MissingExtra(
            f"a {culprit} that matches torch {torch.__version__} (the one here fails to load: {told(error)})",
            culprit,
            purpose,
        ) from error
