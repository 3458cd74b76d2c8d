"""Training-free pruning, side by side: accuracy right after the cut, and with batch-norm statistics measured anew.

Every cut, ours and Torch-Pruning's, is judged on the same test images and recalibrated on the same training images
by the same code.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from cifar_data import Batches, Images
from torch import Tensor, nn

import secateur as sc
from secateur.data import Data, evaluate
from secateur.recovery import RecalibrateBatchNorm, Setting, recover_

EXAMPLE = (2, 3, 32, 32)
RECALIBRATED_ON = 2048


@dataclass(frozen=True)
class Row:
    """One cut network.

    Args:
        tool, criterion, allocator: how it was cut; ``multiple``: what widths were rounded to.
        asked: the share of multiply-adds asked for; ``macs`` and ``params`` are what came out, as shares of dense.
        cut, recalibrated: accuracy.
        error: largest relative error of the cut against the masked original; Torch-Pruning does not check.
        seconds: from the model to the cut one, scoring and verification included.
        reconstructed: accuracy with the weights solved again on the images that statistics are recalibrated on, without
            labels; ``reconstruction_seconds`` come on top.
    """

    network: str
    tool: str
    criterion: str
    allocator: str
    multiple: int
    asked: str
    macs: float
    params: float
    cut: float
    recalibrated: float
    error: float | None
    seconds: float
    failed: str | None = None
    reconstructed: float | None = None
    reconstruction_seconds: float | None = None


@dataclass(frozen=True)
class Method:
    """A way to cut with Secateur."""

    criterion: sc.Criterion
    label: str
    allocator: sc.Global | sc.Uniform
    multiple: int = 8


@dataclass(frozen=True)
class Chosen:
    """What is run: budgets, seeds of random pruning, and the methods whose words match a pattern."""

    budgets: tuple[str, ...]
    seeds: int
    only: str = ""

    def has(self, method: Method) -> bool:
        """Whether the pattern matches ``criterion, allocation, multiple``."""
        label = type(method.allocator).__name__.lower()
        return re.search(self.only, f"{method.label}, {label}, {method.multiple}") is not None


def methods(seeds: int, batches: int) -> Iterator[Method]:
    """What is compared. Random saliencies give uniform widths in any ranking, so they are cut uniformly alone."""
    scored = (
        (sc.Magnitude(1), "magnitude L1"),
        (sc.Magnitude(2), "magnitude L2"),
        (sc.Taylor(batches=batches), "Taylor"),
        (sc.Taylor(batches=batches, drawn=True), "Taylor, no labels"),
        (sc.OBS(samples=RECALIBRATED_ON), "OBS, no labels"),
        (sc.Fisher(batches=RECALIBRATED_ON), "Fisher, no labels"),
        (sc.LAMP(), "LAMP"),
        (sc.FPGM(), "FPGM"),
        (sc.BatchNormScale(), "batch-norm scale"),
        (sc.MeanActivation(RECALIBRATED_ON), "mean activation"),
        (sc.APoZ(RECALIBRATED_ON), "APoZ"),
    )
    for criterion, label in scored:
        yield Method(criterion, label, sc.Global())
        yield Method(criterion, label, sc.Uniform())
        if label.startswith(("magnitude", "Taylor", "OBS")):
            # Torch-Pruning does not round, so neither does one of ours beside it.
            yield Method(criterion, label, sc.Global(), multiple=1)
    for seed in range(1, seeds + 1):
        yield Method(sc.Random(seed), f"random, seed {seed}", sc.Uniform())


def training_free(
    name: str,
    model: nn.Module,
    images: Images,
    chosen: Chosen,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """All rows for one network, and its dense accuracy."""
    dense = accuracy(model, images.test)
    adapted = accuracy(recalibrated(_copy(model), images), images.test)
    say(f"{name}: dense {dense:.4f}, its own statistics measured anew {adapted:.4f}")
    scoring = _rebatched(images.train, RECALIBRATED_ON, 16)
    rows = []
    for asked in chosen.budgets:
        for method in filter(chosen.has, methods(chosen.seeds, len(scoring))):
            rows.append(_ours(name, model, method, asked, scoring, images))
            say(describe(rows[-1]))
        for p, global_ in ((2, True), (1, False)):
            row = _peer(name, model, p, global_, asked, images)
            if row is None:
                say("  Torch-Pruning is not installed: left out")
                break
            rows.append(row)
            say(describe(row))
    return {
        "network": name,
        "dense": dense,
        "dense_recalibrated": adapted,
        "test_images": images.tested,
        "recalibrated_on": RECALIBRATED_ON,
        "rows": [asdict(r) for r in rows],
    }


def describe(row: Row) -> str:
    """A progress line."""
    what = f"  {row.asked} {row.tool}: {row.criterion}, {row.allocator}, multiple {row.multiple}"
    if row.failed:
        return f"{what}: {row.failed}"
    error = "not checked" if row.error is None else f"error {row.error:.1e}"
    solved = "" if row.reconstructed is None else f"{row.reconstructed:.3f} reconstructed, "
    return (
        f"{what}: macs {row.macs:.3f}x, {row.cut:.3f} after the cut, {row.recalibrated:.3f} recalibrated, {solved}"
        f"{error}, {row.seconds:.1f} s"
    )


def accuracy(model: nn.Module, batches: Batches) -> float:
    """Share of images classified rightly, in evaluation mode."""
    return evaluate(model, batches, sc.classification()).metric


def recalibrated(model: nn.Module, images: Images) -> nn.Module:
    """The model, its batch-norm statistics measured on training images; kept whether or not they do better."""
    batches = images.train[: RECALIBRATED_ON // len(images.train[0][1])]
    data = Data(train=batches, select=[_part(batches[0], 32)], evaluate=(), calibration=())
    recoverer = RecalibrateBatchNorm(batches=len(batches), keep_best=False)
    recover_(model, data, sc.classification(), recoverer, Setting(quiet=True))
    return model


def _ours(name: str, model: nn.Module, method: Method, asked: str, scoring: Batches, images: Images) -> Row:
    label = type(method.allocator).__name__.lower()
    what = (name, "Secateur", method.label, label, method.multiple, asked)
    started = time.perf_counter()
    try:
        result = sc.prune(
            model,
            torch.zeros(EXAMPLE).normal_(generator=torch.Generator().manual_seed(0)),
            macs=asked,
            criterion=method.criterion,
            batches=scoring,
            allocator=method.allocator,
            rounding=sc.Rounding(method.multiple),
        )
    except sc.SecateurError as error:
        return _failed(what, error, started)
    seconds = time.perf_counter() - started
    macs = multiply_adds(result.model) / multiply_adds(model)
    row = _row(what, model, result.model, macs, result.verification.max_relative_error, seconds, images)
    inputs = torch.cat([x for x, _ in images.train])[:RECALIBRATED_ON]
    done = sc.reconstruct_(result, [inputs], samples=RECALIBRATED_ON)
    after = accuracy(_copy(result.model), images.test)
    return replace(row, reconstructed=after, reconstruction_seconds=done.seconds)


def _peer(name: str, model: nn.Module, p: int, global_: bool, asked: str, images: Images) -> Row | None:
    try:
        from cifar_peer import torch_pruned
    except ImportError:
        return None
    what = (name, "Torch-Pruning", f"group L{p}", "global" if global_ else "uniform", 1, asked)
    started = time.perf_counter()
    share = float(asked.removesuffix("x"))
    try:
        cut = torch_pruned(model, p, global_, share * multiply_adds(model), multiply_adds, EXAMPLE)
    except Exception as error:  # the peer's own failures are a result
        return _failed(what, error, started)
    seconds = time.perf_counter() - started
    return _row(what, model, cut, multiply_adds(cut) / multiply_adds(model), None, seconds, images)


def _row(
    what: tuple[str, str, str, str, int, str],
    dense: nn.Module,
    cut: nn.Module,
    macs: float,
    error: float | None,
    seconds: float,
    images: Images,
) -> Row:
    cut = _copy(cut)
    after = accuracy(cut, images.test)
    again = accuracy(recalibrated(cut, images), images.test)
    params = _parameters(cut) / _parameters(dense)
    return Row(*what, macs=macs, params=params, cut=after, recalibrated=again, error=error, seconds=seconds)


def _failed(what: tuple[str, str, str, str, int, str], error: Exception, started: float) -> Row:
    message = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
    nan = float("nan")
    return Row(*what, nan, nan, nan, nan, None, time.perf_counter() - started, message)


def multiply_adds(model: nn.Module) -> float:
    """Multiply-adds of one image, counted while it runs, by the same counter for every tool."""
    total = 0.0

    class Counter(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            nonlocal total
            out = func(*args, **(kwargs or {}))
            if func is torch.ops.aten.convolution.default:
                total += out.numel() * args[1][0].numel()
            elif func is torch.ops.aten.addmm.default:
                total += out.numel() * args[1].shape[1]
            return out

    with torch.no_grad(), Counter():
        model(torch.zeros(EXAMPLE))
    return total / EXAMPLE[0]


def _parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def _copy(model: nn.Module) -> nn.Module:
    import copy

    return copy.deepcopy(model).eval().to(memory_format=torch.channels_last)


def _part(batch: tuple[Tensor, Tensor], count: int) -> tuple[Tensor, Tensor]:
    return batch[0][:count], batch[1][:count]


def _rebatched(batches: Batches, count: int, size: int) -> Batches:
    """The same images in smaller batches: the square in Taylor's criterion is taken batch by batch."""
    inputs, targets = (torch.cat(parts)[:count] for parts in zip(*batches, strict=True))
    return list(zip(inputs.split(size), targets.split(size), strict=True))
