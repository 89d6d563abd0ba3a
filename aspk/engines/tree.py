"""The programs of many networks as one tree: what two of them share is one node."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from aspk.families.base import Operation, Product, Program

# Where networks of different T part. Batch-normalisation statistics depend on everything before them. So if
# each network has its own statistics, they part before the first layer or, for still images, behind it, since
# its products are the same at every step. If the statistics are the same for every T, the first t steps of a
# longer run are the t-step run, and networks never part.
Time = Literal["first", "second", "never"]


@dataclass(frozen=True)
class Steps:
    """From here on, the networks of one T are on their own."""

    time_steps: int


class Node:
    """One operation of some networks, behind the operations that lead to it.

    Attributes:
        parent: the node before it; None for the root, which does nothing.
        step: the operation, or a place where networks part.
        children: the nodes that follow, in the order in which the networks added them.
        longest: the largest T of the networks that it belongs to.
        live: names of the values that the nodes behind it read.
    """

    def __init__(self, parent: Node | None, step: Operation | Steps | None) -> None:
        self.parent, self.step = parent, step
        self.children: dict[Operation | Steps, Node] = {}
        self.longest = 0
        self.live: frozenset[str] = frozenset()

    @property
    def needs(self) -> frozenset[str]:
        """Names of the values that it or the nodes behind it read."""
        if not isinstance(self.step, Operation):
            return self.live
        return (self.live - {self.step.writes}) | set(self.step.reads)

    def widest(self, product: Product) -> Product:
        """The widest of the sibling products that differ from ``product`` only in their number of outputs."""
        assert self.parent is not None
        beside = [one for one in self.parent.children if isinstance(one, Product)]
        alike = [one for one in beside if replace(one, outputs=product.outputs) == product]
        return max(alike, key=lambda one: one.outputs)


def plant(programs: Sequence[Program], time: Time) -> list[tuple[Node, ...]]:
    """The tree of some networks.

    Args:
        programs: the program of each network.
        time: where networks of different T part.

    Returns:
        The path of each network, starting at the root that all share.
    """
    root = Node(None, None)
    nodes, paths = [root], []
    for program in programs:
        path = [root]
        for step in _with_time(program, time):
            children = path[-1].children
            if step not in children:
                children[step] = Node(path[-1], step)
                nodes.append(children[step])
            path.append(children[step])
        paths.append(tuple(path))
        for node in path:
            node.longest = max(node.longest, program.time_steps)
    for node in reversed(nodes):  # parents come before their children
        node.live = frozenset().union(*(child.needs for child in node.children.values()))
    return paths


def _with_time(program: Program, time: Time) -> tuple[Operation | Steps, ...]:
    operations = program.operations
    if time == "never":
        return operations
    products = [place for place, one in enumerate(operations) if isinstance(one, Product)]
    place = 0 if time == "first" else products[1]
    return (*operations[:place], Steps(program.time_steps), *operations[place:])
