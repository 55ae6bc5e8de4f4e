"""A backward in two halves: gradients of what a stage received, then gradients of its weights.

Zero-bubble pipelines (Qi et al. 2023, arXiv 2401.10241) send the first to the stage before and run
the second when there is time. Every node that leads to both kinds of gradients is a junction: the
first half remembers what arrives there, the second starts from it and computes the rest. No matrix
product runs twice, also where several junctions lead to one weight.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, Node, get_gradient_edge

__all__ = ["SplitBackward"]

_Gradients = tuple[Tensor | None, ...]


class SplitBackward:
    """The backward of one micro-batch in one stage.

    Args:
        outputs: what the backward starts from; those without a graph are left out.
        gradients: of the outputs; None starts from ones.
        targets: edges whose gradients the first half makes.
        hand_over: whether the second half starts at the targets too, since they lie inside of the
            stage.
    """

    def __init__(
        self,
        outputs: Sequence[Tensor],
        gradients: Sequence[Tensor | None] | None,
        targets: Sequence[GradientEdge],
        hand_over: bool = False,
    ) -> None:
        started = [output.requires_grad for output in outputs]
        self._roots = [
            get_gradient_edge(output) for output, own in zip(outputs, started, strict=True) if own
        ]
        given = [None] * len(outputs) if gradients is None else gradients
        self._root_gradients = [
            torch.ones_like(output) if gradient is None else gradient
            for output, gradient, own in zip(outputs, given, started, strict=True)
            if own
        ]
        self._targets = list(targets)
        self._ends = {(edge.node, edge.output_nr) for edge in targets}
        self._hand_over = hand_over
        self._junctions: list[Node] = []
        self._arrived: dict[Node, _Gradients] = {}
        self._inside: set[Node] = set()
        self._loose: list[tuple[GradientEdge, Tensor]] = []

    def run_inputs(self) -> list[Tensor | None]:
        """Run the first half.

        Returns:
            gradients of the targets; None for those that nothing leads to.
        """
        nodes = _reachable(edge.node for edge in self._roots)
        self._inside = _leading_to({edge.node for edge in self._targets}, nodes)
        self._junctions = [node for node in nodes if node in self._inside and self._leaves(node)]
        self._junctions.sort(key=_sequence, reverse=True)
        self._loose = [
            (edge, gradient)
            for edge, gradient in zip(self._roots, self._root_gradients, strict=True)
            if edge.node not in self._inside
        ]
        gradients = self._gradients_of_targets()
        if self._hand_over:
            pairs = zip(self._targets, gradients, strict=True)
            self._loose += [(edge, g) for edge, g in pairs if g is not None]
        self._roots, self._root_gradients, self._targets = [], [], []
        return gradients

    def run_weights(self) -> None:
        """Run the second half; gradients are added to those of the weights."""
        starts = [self._leaves(junction) for junction in self._junctions]
        starts.append([edge for edge, _ in self._loose])
        uses = Counter(node for edges in starts for node in _reachable(edge.node for edge in edges))
        waiting = dict(self._loose)
        self._loose = []
        # From the outputs down, so that what lies between two junctions can go.
        self._junctions.reverse()
        while self._junctions:
            self._run_junction(self._junctions.pop(), uses, waiting)
        if waiting:
            torch.autograd.backward(list(waiting), list(waiting.values()))
        self._inside = set()

    def _gradients_of_targets(self) -> list[Tensor | None]:
        if not self._roots or not self._targets:
            return [None] * len(self._targets)
        handles = [node.register_prehook(self._noting(node)) for node in self._junctions]
        try:
            return list(
                torch.autograd.grad(
                    self._roots,
                    self._targets,
                    self._root_gradients,
                    retain_graph=True,
                    allow_unused=True,
                )
            )
        finally:
            for handle in handles:
                handle.remove()

    def _noting(self, node: Node) -> Callable[[_Gradients], None]:
        def note(gradients: _Gradients) -> None:
            self._arrived[node] = gradients

        return note

    def _leaves(self, junction: Node) -> list[GradientEdge]:
        """Edges from a junction to nodes that lead to weights only."""
        return [
            GradientEdge(node, number)
            for node, number in junction.next_functions
            if node is not None and node not in self._inside and (node, number) not in self._ends
        ]

    def _run_junction(
        self, junction: Node, uses: Counter[Node], waiting: dict[GradientEdge, Tensor]
    ) -> None:
        arrived = self._arrived.pop(junction, ())
        starts = [(GradientEdge(junction, i), g) for i, g in enumerate(arrived) if g is not None]
        leaves = list(dict.fromkeys(self._leaves(junction)))
        if not starts or not leaves:
            return
        shared = any(uses[edge.node] > 1 for edge in leaves)
        handles = self._blocked(junction) if shared else []
        try:
            gradients = torch.autograd.grad(
                [edge for edge, _ in starts],
                leaves,
                [gradient for _, gradient in starts],
                retain_graph=shared,
                allow_unused=True,
            )
        finally:
            for handle in handles:
                handle.remove()
        ready = []
        for edge, gradient in zip(leaves, gradients, strict=True):
            if gradient is not None and _keeps_shared(edge.node, uses):
                waiting[edge] = waiting[edge] + gradient if edge in waiting else gradient
            elif gradient is not None:
                ready.append((edge, gradient))
        if ready:
            torch.autograd.backward([edge for edge, _ in ready], [g for _, g in ready])

    def _blocked(self, junction: Node) -> list[torch.utils.hooks.RemovableHandle]:
        """Let nothing pass from a junction to the others, which have their own turn."""
        inner = {node for node, _ in junction.next_functions if node in self._inside}
        return [node.register_prehook(_nothing) for node in inner]


def _nothing(gradients: _Gradients) -> _Gradients:
    return (None,) * len(gradients)


def _keeps_shared(node: Node, uses: Counter[Node]) -> bool:
    """Whether running a node frees what another turn needs too; a weight keeps nothing."""
    return any(uses[n] > 1 and not hasattr(n, "variable") for n in _reachable([node]))


def _reachable(roots: Iterable[Node]) -> list[Node]:
    """Nodes from some roots on, each once."""
    found: dict[Node, None] = {}
    waiting = list(roots)
    while waiting:
        node = waiting.pop()
        if node not in found:
            found[node] = None
            waiting += [child for child, _ in node.next_functions if child is not None]
    return list(found)


def _leading_to(targets: set[Node], nodes: Sequence[Node]) -> set[Node]:
    """Nodes from which a target can be reached, without the targets."""
    parents: dict[Node, list[Node]] = {}
    for node in nodes:
        for child, _ in node.next_functions:
            if child is not None:
                parents.setdefault(child, []).append(node)
    found: set[Node] = set()
    waiting = [parent for target in targets for parent in parents.get(target, ())]
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            waiting += parents.get(node, ())
    return found


def _sequence(node: Node) -> int:
    return node._sequence_nr()
