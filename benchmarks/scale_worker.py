"""One measurement of a large Llama in this process: its analysis on the meta device, or its checkpoint, cut in shards.

python benchmarks/scale_worker.py analyse 16 record.json
"""

from __future__ import annotations

import gc
import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "benchmarks")]

import torch  # noqa: E402
from measured import peak, write_record  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torchvision_operators import define  # noqa: E402

LAYERS, VOCABULARY = 16, 128256
SHARD = 500_000_000  # bytes of a shard; the embedding alone is a little larger

Result = TypeVar("Result")
Record = dict[str, Any]


class Clock:
    """Seconds of named parts by the wall and by the processor, and the peak of memory after each."""

    def __init__(self) -> None:
        self.parts: dict[str, dict[str, float]] = {}
        self._inner = 0.0, 0.0

    def __call__(self, name: str, part: Callable[[], Result]) -> Result:
        """Runs one part, less what is counted inside of it."""
        gc.collect()
        outer, self._inner = self._inner, (0.0, 0.0)
        wall, processor = time.perf_counter(), time.process_time()
        result = part()
        took = time.perf_counter() - wall, time.process_time() - processor
        self.parts[name] = {
            "seconds": took[0] - self._inner[0], "processor": took[1] - self._inner[1], "peak_bytes": peak(),
        }  # fmt: skip
        self._inner = outer[0] + took[0], outer[1] + took[1]
        return result


def llama(layers: int = LAYERS, vocabulary: int = VOCABULARY, device: str = "meta") -> nn.Module:
    """Llama-3.2-1B, or as many of its layers, in bfloat16; without weights on the meta device."""
    define()
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        hidden_size=2048, num_hidden_layers=layers, num_attention_heads=32, num_key_value_heads=8, head_dim=64,
        intermediate_size=8192, vocab_size=vocabulary, tie_word_embeddings=True, use_cache=False,
        rope_parameters={"rope_type": "default", "rope_theta": 500000.0},
    )  # fmt: skip
    with torch.device(device):
        model: nn.Module = LlamaForCausalLM(config).eval().to(torch.bfloat16)
    return model


def tokens(vocabulary: int = VOCABULARY) -> dict[str, Tensor]:
    """Sixteen tokens."""
    return {"input_ids": torch.randint(vocabulary, (1, 16), generator=torch.Generator().manual_seed(0))}


def analyse(layers: int) -> Record:
    """Everything that needs no weights: program, groups, heads of their own, blocks, and plans with their sizes."""
    import secateur as sc
    from secateur.planning import choice_of

    model, clock = llama(layers), Clock()
    trace = sys.modules["secateur.graph.trace"]
    for name in ("_export", "_module"):
        whole = getattr(trace, name)
        part = "export" if name == "_export" else "program"
        setattr(trace, name, lambda *a, part=part, whole=whole: clock(part, lambda: whole(*a)))
    graph = clock("form", lambda: sc.trace(model, tokens()))
    groups = clock("groups", lambda: sc.find_groups(graph))
    clock("heads", lambda: groups.contexts)
    clock("blocks", lambda: groups.blocks)
    scores = sc.score(model, groups, sc.Random(0))
    costs = [sc.Params(graph), sc.Macs(graph)]

    def sized() -> list[float]:
        plan = sc.allocate(scores, keep=0.5)
        alive = groups.coupling.alive(choice_of(groups, plan).dead)
        return [cost.bind(groups).of(alive) for cost in costs]

    params, macs = clock("plan and its sizes", sized)
    clock("plan for a budget", lambda: sc.allocate(scores, costs, sc.Budget(params="0.5x", macs="0.6x")))
    return {
        "layers": layers, "parameters": graph.parameters, "nodes": len(graph.nodes), "groups": len(groups),
        "prunable": groups.prunable_share, "left": params / graph.parameters, "macs": macs, "parts": clock.parts,
    }  # fmt: skip


def write_checkpoint(folder: Path) -> Record:
    """A checkpoint of random weights, a shard at a time, the embedding first."""
    from safetensors.torch import save_file

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    model = llama()
    tied = {"lm_head.weight"}
    shards: list[dict[str, tuple[int, ...]]] = [{}]
    held = 0
    for name, tensor in model.state_dict().items():
        if name in tied:
            continue
        if held and held + 2 * tensor.numel() > SHARD:
            shards.append({})
            held = 0
        shards[-1][name] = tuple(tensor.shape)
        held += 2 * tensor.numel()
    generator = torch.Generator().manual_seed(0)
    where, size = {}, 0
    for i, shard in enumerate(shards, start=1):
        file = f"model-{i:05}-of-{len(shards):05}.safetensors"
        weights = {
            name: torch.empty(shape, dtype=torch.bfloat16).normal_(std=0.02, generator=generator)
            for name, shape in shard.items()
        }  # fmt: skip
        save_file(weights, folder / file, metadata={"format": "pt"})
        size += sum(2 * t.numel() for t in weights.values())
        where.update(dict.fromkeys(shard, file))
    index = {"metadata": {"total_size": size}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return {"bytes": size, "shards": len(shards), "largest": 2 * VOCABULARY * 2048}


def score_checkpoint(folder: Path) -> Record:
    """Magnitudes of the weights, read one by one, and a plan that leaves half of every group."""
    import secateur as sc

    model, clock = llama(), Clock()
    groups = clock("analysis", lambda: sc.find_groups(sc.trace(model, tokens())))
    store = sc.open_checkpoint(folder)
    scores = clock("magnitude", lambda: sc.score(model, groups, sc.Magnitude(), tensors=store))
    plan = clock("plan", lambda: sc.allocate(scores, keep=0.5))
    plan.save(folder / "half.json")
    return {"parts": clock.parts}


def cut_checkpoint(folder: Path, own_twin: bool) -> Record:
    """The plan applied to the shards."""
    import secateur as sc

    model, clock = llama(), Clock()
    plan = sc.Plan.load(folder / "half.json")
    small = 1024
    twin = llama(2, small, "cpu") if own_twin else None
    shards = sys.modules["secateur.surgery.shards"]
    proof = shards._proof
    setattr(shards, "_proof", lambda *a: clock("twin", lambda: proof(*a)))  # noqa: B010
    writing = shards._Slicing.write
    setattr(shards._Slicing, "write", lambda *a: clock("slicing", lambda: writing(*a)))  # noqa: B010
    analysis = shards.trace
    shards.trace = lambda *a, **k: clock("export", lambda: analysis(*a, **k))
    out = folder / "cut"
    shutil.rmtree(out, ignore_errors=True)
    inputs = tokens(small if own_twin else VOCABULARY)
    result = clock("rest", lambda: sc.cut_shards(model, plan, inputs, folder, out, twin=twin))
    shutil.rmtree(out)
    said = result.record["verification"]
    return {
        "parts": clock.parts, "said": result.record["said"], "bytes": result.record["bytes"], "twin": said["twin"],
        "equal": len(said["equal_bit_for_bit"]), "not_run": len(said["sliced_without_being_run"]),
        "error": result.verification.max_relative_error,
    }  # fmt: skip


def main() -> int:
    """Measures one thing."""
    what, argument, target = sys.argv[1:4]
    torch.set_num_threads(1)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    jobs: dict[str, Callable[[], Record]] = {
        "analyse": lambda: analyse(int(argument)),
        "write": lambda: write_checkpoint(Path(argument)),
        "score": lambda: score_checkpoint(Path(argument)),
        "cut": lambda: cut_checkpoint(Path(argument), own_twin=False),
        "cut-own-twin": lambda: cut_checkpoint(Path(argument), own_twin=True),
    }
    record: Record = {"ran": False, "problem": None}
    try:
        record |= {**jobs[what](), "ran": True, "peak_bytes": peak()}
    except Exception as error:
        line = (str(error).strip().splitlines() or ["no message"])[0]
        record["problem"] = f"{type(error).__name__}: {line[:200]}"
    write_record(record, target)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
