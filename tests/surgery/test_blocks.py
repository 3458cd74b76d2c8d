"""Blocks removed whole: what is left computes what it should, holds nothing of them, and can be worked with."""

from __future__ import annotations

import copy
import dataclasses
import json

import numpy as np
import pytest
import torch
from torch import Tensor, fx, nn

import secateur as sc
from secateur.coupling import Groups, chosen_blocks, remove_blocks
from secateur.errors import NotVerified, PlanError, RequestError, UnknownName
from secateur.planning import Plan, plan_of, without_removed
from secateur.surgery import Emitted, Sizes, cut_groups, emit, verify
from tests.zoo import random_plan
from tests.zoo.blocks import BLOCKS, ready

REMOVABLE = [(case.name, block) for case in BLOCKS.values() for block in case.blocks]


def whole(groups: Groups) -> Sizes:
    return Sizes(groups.coupling, groups.coupling.alive(np.empty(0, dtype=np.int64)))


def removed(name: str, *blocks: str) -> Groups:
    return remove_blocks(ready(name), blocks)


@pytest.mark.parametrize(("name", "block"), REMOVABLE)
def test_removed_alone(name: str, block: str) -> None:
    groups = removed(name, block)
    result = cut_groups(groups, plan_of(groups, np.empty(0, dtype=np.int64)), dtype=torch.float64)
    record = groups.removal.blocks[0]
    assert result.verification.max_relative_error <= 1e-12
    # A branch is zeroed in the original; a block that is no branch is bypassed, which zeroing cannot say.
    masked = record.kind == "branch" or record.whole
    assert result.verification.kind == ("masked" if masked else "restricted")
    assert ("zeroed" if masked else "bypassed") in result.verification.reference.rpartition(";")[2]
    before = groups.graph.module
    assert sum(p.numel() for p in result.module.parameters()) == (
        sum(p.numel() for p in before.parameters()) - record.parameters
    )
    names = {n for n, _ in result.module.named_parameters()} | {n for n, _ in result.module.named_buffers()}
    assert names.isdisjoint(record.params)


@pytest.mark.parametrize(("name", "block"), REMOVABLE)
def test_removed_and_channels_cut_in_one_plan(name: str, block: str) -> None:
    groups = removed(name, block)
    plan = random_plan(groups, 1)
    assert plan.removed == (block,)
    assert set(plan.kept).isdisjoint(groups.removal.state)
    result = cut_groups(
        ready(name), Plan.from_json(json.loads(json.dumps(plan.to_json()))), dtype=torch.float64
    )
    assert result.verification.max_relative_error <= 1e-10


class ByHand(nn.Module):
    """What two layers of :class:`~tests.zoo.blocks.PreNorm` are without the first."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model.head(self.model.layers[1](self.model.stem(x)))


def test_against_the_network_written_without_the_block() -> None:
    case = BLOCKS["pre_norm"]
    model, x = case.model(), torch.randn(3, 5, 6)
    small = sc.prune(model, case.inputs(2), remove="layers.0")
    assert torch.equal(small.model(x), ByHand(model)(x))
    assert small.plan == Plan(small.plan.fingerprint, {}, ("layers.0",))
    post = BLOCKS["post_norm"]
    model = post.model()
    small = sc.prune(model, post.inputs(2), remove=["layers.0"])
    assert torch.equal(small.model(x), ByHand(model)(x))


def test_a_block_is_its_branches_and_a_module_all_of_its_blocks() -> None:
    groups = ready("two_branches")
    alike = [
        cut_groups(g, plan_of(g, np.empty(0, dtype=np.int64))).module
        for g in (remove_blocks(groups, n) for n in (["layers.1"], ["layers.1.attn", "layers.1.mlp"]))
    ]
    assert alike[0].code == alike[1].code
    assert [b.name for b in chosen_blocks(groups.blocks, ["layers.0"])] == ["layers.0"]
    everything = remove_blocks(groups, ["layers"])
    assert everything.removal.names == tuple(sorted(BLOCKS["two_branches"].blocks))
    left = cut_groups(everything, plan_of(everything, np.empty(0, dtype=np.int64))).module
    assert [n for n, _ in left.named_parameters()] == ["stem.weight", "stem.bias", "head.weight", "head.bias"]


def test_of_a_shared_module_one_use_goes_and_the_weights_stay() -> None:
    case = BLOCKS["shared"]
    model, x = case.model(), torch.randn(2, 5, 6)
    small = sc.prune(model, case.inputs(2), remove=["block#2"])
    y = model.stem(x)
    assert torch.equal(small.model(x), model.head(model.block(model.block(y))))
    bare = sc.prune(model, case.inputs(2), remove=["block", "block#2", "block#3"])
    assert torch.equal(bare.model(x), model.head(y))
    assert {n for n, _ in bare.model.named_parameters()} == {
        f"{m}.{p}" for m in ("stem", "head") for p in ("weight", "bias")
    }


def test_tied_weights_stay_where_others_read_them() -> None:
    case = BLOCKS["tied_to_head"]
    model, x = case.model(), torch.randn(2, 5, 6)
    small = sc.prune(model, case.inputs(2), remove=["fc1"])
    assert torch.equal(small.model(x), model.head(model.stem(x)))
    assert sum(p.numel() for p in small.model.parameters()) == 56 + 72


def test_what_only_the_removed_blocks_read_goes_as_well() -> None:
    """Without any cross attention, nothing reads the encoder."""
    case = BLOCKS["decoder"]
    one, both = (
        removed("decoder", *names) for names in (["layers.0.cross"], ["layers.0.cross", "layers.1.cross"])
    )
    assert "source.weight" not in one.removal.state and "source.weight" in both.removal.state
    result = cut_groups(both, plan_of(both, np.empty(0, dtype=np.int64)))
    source, target, keep = case.inputs(2)
    assert torch.equal(result.module(source, target, keep), result.module(source + 1, target, keep))


def test_an_activation_in_place_after_the_sum_writes_to_a_copy() -> None:
    """In place on the shortcut itself, it would change what the shortcut's other readers see."""
    case = BLOCKS["residuals"]
    model, x = case.model(), case.inputs(3)
    small = sc.prune(model, case.inputs(2), remove=["stage1.0", "stage1.1"]).model
    y = model.stage2(model.stem(x).relu())
    assert torch.allclose(small(x), model.head(y.mean((2, 3))), atol=1e-6)
    small.train()
    small(x).sum().backward()  # a tensor that was saved for it must not have been written over
    assert all(p.grad is not None for p in small.parameters())
    clones = [n for n in small.graph.nodes if n.target is torch.ops.aten.clone.default]
    assert len(clones) == 2


def test_counters_of_a_removed_norm_go_too() -> None:
    small = sc.prune(BLOCKS["residuals"].model(), BLOCKS["residuals"].inputs(2), remove=["stage2.1"]).model
    assert not [n for n, _ in small.named_buffers() if n.startswith("stage2.1.")]
    small.train()
    small(BLOCKS["residuals"].inputs(2))
    assert int(small.get_buffer("stage1.0.bn1.num_batches_tracked")) == 1


def test_a_plain_chain_keeps_the_same_channels_on_both_sides() -> None:
    groups = removed("plain", "body.3")
    tied = groups["body.0.weight:0"]
    assert {(m.param, m.axis) for m in tied.members} >= {("body.0.weight", 0), ("body.6.weight", 1)}
    before = ready("plain")
    assert ("body.6.weight", 1) not in {(m.param, m.axis) for m in before["body.0.weight:0"].members}


# -- working with the result -----------------------------------------------------------------------------


def test_saved_loaded_exported_and_pruned_again(tmp_path) -> None:  # type: ignore[no-untyped-def]
    case = BLOCKS["two_branches"]
    model, x = case.model(), case.inputs(2)
    first = sc.prune(model, x, remove=["layers.0.attn"], keep=0.5)
    loaded = sc.load(sc.save(first.model, tmp_path))
    assert torch.equal(loaded(x), first.model(x))
    assert isinstance(loaded, fx.GraphModule)
    torch.export.export(loaded, (x,))
    # The other branch is all there is in the layer now, so it has the layer's name.
    names = [b.name for b in sc.find_groups(sc.trace(loaded, x)).blocks]
    assert names == ["layers.0", "layers.1", "layers.1.attn", "layers.1.mlp"]
    second = sc.prune(first.model, x, remove=["layers.0"], keep=0.5)
    both = first.plan.then(second.plan)
    assert both.removed == ("layers.0.attn", "layers.0")
    again = sc.cut(model, both, x)
    assert torch.allclose(again(x), second.model(x), atol=1e-6)
    assert set(dict(again.named_parameters())) == set(dict(second.model.named_parameters()))
    copy.deepcopy(again)(x)


def test_a_second_removal_of_shared_weights_counts_what_is_left() -> None:
    case = BLOCKS["shared"]
    model, x = case.model(), case.inputs(2)
    first = sc.prune(model, x, remove=["block"])
    second = sc.prune(first.model, x, remove=["block#2"])
    assert first.plan.then(second.plan).removed == ("block", "block#3")


def test_costs_do_not_count_what_was_removed() -> None:
    case = BLOCKS["residuals"]
    result = sc.prune(case.model(), case.inputs(2), remove=["stage2.1"], params="0.5x")
    params = sc.Params(result.groups.graph).bind(result.groups)
    left = sum(p.numel() for p in result.model.parameters())
    assert params.dense == ready("residuals").graph.parameters
    assert 0.97 * 0.5 * params.dense <= left <= 0.5 * params.dense
    blocks = sc.Macs(result.groups.graph).of_blocks(result.groups)
    assert blocks["stage2.1"] == 2 * 8 * 8 * 9 * 4 * 4


# -- requests that are wrong ---------------------------------------------------------------------------------


def test_wrong_requests() -> None:
    case = BLOCKS["residuals"]
    model, x = case.model(), case.inputs(2)
    with pytest.raises(UnknownName, match=r"no block is called 'stage1.7'; did you mean stage1\.[01]"):
        sc.prune(model, x, remove=["stage1.7"])
    with pytest.raises(
        RequestError, match=r"'stage2.0' cannot be removed: what comes in is \[batch, 4, 8, 8\]"
    ):
        sc.prune(model, x, remove=["stage2.0"])
    with pytest.raises(UnknownName, match="the model has no residual branch and no repeated block"):
        sc.prune(nn.Linear(4, 3), torch.randn(2, 4), remove=["fc"])
    with pytest.raises(sc.RecipeError, match="not both"):
        sc.prune(model, x, remove=["stage2.1"], depth=0.5)


def test_plans_that_do_not_fit() -> None:
    groups = ready("pre_norm")
    with pytest.raises(PlanError, match=r"does not fit the model: no block is called 'layers.5'"):
        cut_groups(groups, Plan(groups.graph.fingerprint, {}, ("layers.5",)))
    with pytest.raises(PlanError, match=r"the plan removes layers.0, the groups are without none"):
        sc.planning.dead_atoms(groups, Plan(groups.graph.fingerprint, {}, ("layers.0",)))
    reduced = remove_blocks(groups, ["layers.0"])
    with pytest.raises(PlanError, match=r"the plan removes no block, the groups are without layers.0"):
        cut_groups(reduced, Plan(groups.graph.fingerprint, {}))
    assert without_removed(reduced, Plan(groups.graph.fingerprint, {}, ("layers.0",))) is reduced


# -- mistakes put in on purpose ----------------------------------------------------------------------------------

MISTAKEN = ["pre_norm", "two_branches", "post_norm", "parallel", "gated", "plain", "residuals"]


def mistaken(name: str) -> Groups:
    return removed(name, next(iter(BLOCKS[name].blocks)))


@pytest.mark.parametrize("name", MISTAKEN)
def test_a_program_that_forgets_to_drop_is_refused(name: str) -> None:
    groups = mistaken(name)
    everything = emit(dataclasses.replace(groups, removal=type(groups.removal)()), whole(groups))
    with pytest.raises(NotVerified):
        verify(groups, everything)
    # The values alone show it too, without the names of the tensors.
    blind = dataclasses.replace(groups, removal=dataclasses.replace(groups.removal, state=frozenset()))
    with pytest.raises(NotVerified, match="differs from the masked original"):
        verify(blind, everything)


@pytest.mark.parametrize("name", MISTAKEN)
def test_a_program_that_drops_the_wrong_operand_is_refused(name: str) -> None:
    """What goes on is the branch, or what the block computes before its end, instead of the stream."""
    groups = mistaken(name)
    node = next(iter(groups.removal.instead))
    wrong = next(
        n for n in groups.graph.nodes
        if n in groups.removal.gone and n.op == "call_function" and n.meta["val"].shape == node.meta["val"].shape
    )  # fmt: skip
    assert refused(groups, wrong)


@pytest.mark.parametrize("name", MISTAKEN)
def test_a_program_that_bypasses_to_the_wrong_value_is_refused(name: str) -> None:
    """An earlier or later value of the same form goes on."""
    groups = mistaken(name)
    node, right = next(iter(groups.removal.instead.items()))
    others = [
        n for n in groups.graph.nodes
        if n.op == "call_function" and n is not right and n is not node and n not in groups.removal.gone
        and not any(u.target is torch.ops.aten.relu_.default for u in n.users)  # the same tensor then
        and getattr(n.meta.get("val"), "shape", None) == node.meta["val"].shape
        and groups.graph.nodes.index(n) < groups.graph.nodes.index(node)
    ]  # fmt: skip
    for wrong in others:
        assert refused(groups, wrong)


def refused(groups: Groups, wrong: fx.Node) -> bool:
    """Whether a program is refused in which ``wrong`` goes on in the place of the first removed block."""
    assert verify(groups, emit(groups, whole(groups))).max_relative_error < 1e-6
    node = next(iter(groups.removal.instead))
    needed = {wrong}
    while more := {i for n in needed for i in n.all_input_nodes} - needed:
        needed |= more
    removal = dataclasses.replace(
        groups.removal,
        instead={**groups.removal.instead, node: wrong},
        gone=groups.removal.gone - needed,
        copied=frozenset(),
    )
    program = emit(dataclasses.replace(groups, removal=removal), whole(groups))
    blind = dataclasses.replace(groups, removal=dataclasses.replace(groups.removal, state=frozenset()))
    with pytest.raises(NotVerified, match="differs from the masked original"):
        verify(blind, program)
    return True


def test_an_output_that_is_wired_to_another_value_is_refused() -> None:
    groups = ready("weights")
    emitted = emit(groups, whole(groups))
    output = next(n for n in emitted.module.graph.nodes if n.op == "output")
    values = output.args[0]
    other = next(n for n in emitted.module.graph.nodes if n.name == "add")
    output.args = ((other, values[1]),)
    with pytest.raises(NotVerified, match="at add_1"):
        verify(groups, Emitted(emitted.module, emitted.nodes, emitted.sizes))
