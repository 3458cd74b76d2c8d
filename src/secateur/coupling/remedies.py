"""What would free a locked axis: one visible table, by cause.

A rule states why it pins, in words. The table finds its line by these words and by the operator; a line may say the
reason better than the rule could, since the rule sees one call and not what the axis is, and says what to do. The
first line that matches counts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from torch import fx

from secateur.coupling.facts import KERNEL_AXIS, Pin
from secateur.graph import op_name

KERNEL = "kernel"
TIED = "all of its positions live and die together, so that removing one would empty the axis"
ONLY = "its positions are tied into a single unit, and a group keeps at least one"


@dataclass(frozen=True)
class Remedy:
    """A line of the table.

    Args:
        kind: one word for the cause.
        match: a regular expression on the reason that the rule gave.
        remedy: what to do. ``{operator}`` is the operator's name in torch's registry, ``{name}`` and ``{axis}`` those
            of an input or output.
        says: the reason in other words; empty to keep the rule's.
        on: a regular expression on the operator's name.
        made: whether the line is for axes that the operator made (True), locked (False), or for both (None).
        tied: whether the cause is where positions were tied together, and not where that came out.
    """

    kind: str
    match: str
    remedy: str
    says: str = ""
    on: str = ""
    made: bool | None = None
    tied: bool = False

    def fits(self, pin: Pin) -> bool:
        """Whether the line is for this pin."""
        return (
            (self.made is None or self.made == pin.made)
            and re.search(self.match, pin.reason) is not None
            and re.search(self.on, _registered(pin.node)) is not None
        )

    def operator(self, pin: Pin) -> str:
        """The operator as the exporter writes it, ``"output"`` or ``"input"``."""
        if self.kind in ("output", "input"):
            return self.kind
        return str(pin.node.target) if pin.node is not None else "-"

    def reason(self, pin: Pin) -> str:
        """The cause in words."""
        return (self.says or pin.reason).replace("{operator}", _registered(pin.node))

    def words(self, pin: Pin) -> str:
        """What to do, with the names filled in."""
        found = re.search(r"axis (\d+) of '([^']+)'", pin.reason)
        axis, name = found.groups() if found else ("", "")
        text = self.remedy
        for key, value in (("operator", _registered(pin.node)), ("axis", axis), ("name", name)):
            text = text.replace("{" + key + "}", value)
        return text


def remedy_for(pin: Pin) -> Remedy:
    """The line of the table for a pin."""
    return next(line for line in REMEDIES if line.fits(pin))


def _registered(node: fx.Node | None) -> str:
    return op_name(node) if node is not None and node.op == "call_function" else ""


REMEDIES: tuple[Remedy, ...] = (
    Remedy("output", r"output of the model: the batch", "axis 0 of what the model returns is the batch, and stays"),
    Remedy(
        "output", r"output of the model: axis",
        "free_outputs={'{name}': [{axis}]} lets the output get narrower (--free-outputs {name}:{axis}); what reads it "
        "must take what is kept",
    ),
    Remedy("input", r"input of the model: the batch", "axis 0 of what the model is given is the batch, and stays"),
    Remedy(
        "input", r"input of the model: axis",
        "its length is that of the input: it shrinks with an input of fewer channels, features or places",
    ),
    Remedy(
        "unknown operator", r"has no rule",
        "teach Secateur the operator in a dozen lines: find_groups(graph, rules={'{operator}': rule}); prune and cut "
        "take rules= too; see docs/own-operators.md",
    ),
    Remedy(KERNEL, KERNEL_AXIS, "kernels keep their size"),
    Remedy(
        "channels in a window", r"window slides over", made=False,
        says="a window of {operator} slides over it, so that neighbours have to stay neighbours",
        remedy="a layer that weighs these positions one by one, such as a linear one, in place of {operator} would "
        "free them",
    ),
    Remedy(
        "space", r"window slides over|places in a window|image's height", made=True,
        says="its length follows from the size of the input in space or time",
        remedy="fewer places come from a smaller input: a smaller image, a shorter sequence or larger patches",
    ),
    Remedy(
        "space", r"places in a window|image's height",
        "its positions are places, not channels: a smaller window or scale has fewer of them",
    ),
    Remedy("coordinates", r"holds coordinates", "coordinates are two or three numbers, and all are needed"),
    Remedy(
        "lookup", r"looked up by index", on=r"embedding",
        says="its rows are looked up by number, as the words of a vocabulary are",
        remedy="a row goes only with what it stands for: a smaller vocabulary or table, numbered anew, has fewer",
    ),
    Remedy(
        "lookup", r"looked up by index",
        "positions that are named by number cannot go without changing the numbers; a slice in place of indices, where "
        "it does the same, would free them",
    ),
    Remedy(
        "indices", r"holds indices",
        "its numbers point at positions of another tensor, and there is one for each: nothing is to be saved here",
    ),
    Remedy(
        "order", r"depends on the order|orders along it|returns positions along",
        "{operator} counts or compares all positions along the axis; applied to another axis or to fewer channels it "
        "would free these",
    ),
    Remedy("order", r"shifts along it", "without the shift by whole positions they would be free"),
    Remedy(
        "position", r"selects this position|this one position|apart position by position",
        "the line takes single positions by number; a layer of their own for these, or whole parts of the axis, would "
        "free the rest",
    ),
    Remedy(
        "stride", r"strided slice",
        "take whole parts of the axis (chunk), or a stride that divides it, from one of the first positions on",
    ),
    Remedy(
        "reshape", r"regroup",
        "let the sizes of the reshapes divide one another, such as (groups, channels // groups), or keep the groups on "
        "an axis of their own",
    ),
    Remedy(
        "tied", f"{TIED}|{ONLY}", tied=True,
        remedy="the line ties them: without it, or with a layer for each part, the positions would be free of each "
        "other",
    ),
    Remedy("diagonal", r"diagonal", "two letters for the two axes, and the diagonal of the result, would free it"),
    Remedy("padding", r"padded from its own", "constant padding (mode='constant') would free it"),
    Remedy(
        "constant", r"tell positions apart|one position for each",
        "its length is written in the line named, and each position has its meaning; make it shorter there",
    ),
    Remedy("tied", r"tied to one that cannot", "what it is tied to is locked in turn; see its own lock"),
    Remedy(
        "fixed size", r"^$", on=r".", made=True,
        says="it meets an axis that {operator} makes, at a fixed size",
        remedy="the size is written in the line named, or follows from its operands: a rule of your own can say how, "
        "rules={'{operator}': rule}",
    ),
    Remedy("fixed size", r"^$", "nothing says why; please report it", says="it is of fixed size"),
    Remedy(
        "operator", r"",
        "the rule of {operator} says so; a rule of your own can say more: rules={'{operator}': rule}",
    ),
)  # fmt: skip
