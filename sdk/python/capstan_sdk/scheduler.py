"""Scheduler policies: which nodes can take a pod, and which of them is best.

The host tells the cluster once and then what changes; this library keeps it as plain objects and asks the author about
one node at a time.
"""

from dataclasses import dataclass, field
from typing import Optional

from wit_world.exports import view as _view
from wit_world.imports import capstan_scheduler_types as _types

from . import Fault, Plugin, answer

_WORD_BITS = 64
_EFFECTS = {
    _types.TaintEffect.NO_SCHEDULE: "NoSchedule",
    _types.TaintEffect.PREFER_NO_SCHEDULE: "PreferNoSchedule",
    _types.TaintEffect.NO_EXECUTE: "NoExecute",
}


@dataclass
class Taint:
    key: str
    value: str
    #: ``NoSchedule``, ``PreferNoSchedule`` or ``NoExecute``.
    effect: str


@dataclass
class Pod:
    """A pod as placement sees it. Amounts are in the resource's own unit: ``cpu`` in millicores, the rest in bytes."""

    namespace: str
    #: Empty for a pod that is assigned already.
    name: str
    labels: dict
    annotations: dict
    priority: int
    requests: dict
    node_selector: dict
    images: list


@dataclass
class Node:
    id: int
    name: str
    labels: dict
    taints: list
    unschedulable: bool
    allocatable: dict
    #: The pods on it, where the policy ``wants_pods``.
    pods: dict = field(default_factory=dict)

    def requested(self, resource: str) -> int:
        """What its pods ask for."""
        return sum(pod.requests.get(resource, 0) for pod in self.pods.values())


class Cluster:
    """What the host told, as texts."""

    def __init__(self):
        self.symbols = [""]
        self.nodes = {}
        self._places = {}

    def apply(self, delta):
        told = delta.value
        match delta:
            case _view.Delta_Symbols():
                first, names = told
                if first > len(self.symbols):
                    raise Fault(f"symbol {first} does not follow the {len(self.symbols)} known", retry=True)
                self.symbols[first:] = names
            case _view.Delta_NodeUpserted():
                before = self.nodes.get(told.id)
                self.nodes[told.id] = self._node(told, before.pods if before else {})
            case _view.Delta_NodeRemoved():
                self.nodes.pop(told, None)
            case _view.Delta_PodUpserted():
                self._remove(told.id)
                if told.node in self.nodes:
                    self.nodes[told.node].pods[told.id] = self.pod(told.pod)
                    self._places[told.id] = told.node
            case _view.Delta_PodRemoved():
                self._remove(told)

    def _remove(self, pod):
        node = self.nodes.get(self._places.pop(pod, None))
        if node:
            node.pods.pop(pod, None)

    def _labels(self, labels):
        return {self.symbols[label.key]: self.symbols[label.value] for label in labels}

    def _amounts(self, amounts):
        return {self.symbols[amount.resource]: amount.value for amount in amounts}

    def _node(self, node, pods):
        taints = [Taint(self.symbols[t.key], self.symbols[t.value], _EFFECTS[t.effect]) for t in node.taints]
        return Node(
            node.id, self.symbols[node.name], self._labels(node.labels), taints, node.unschedulable,
            self._amounts(node.allocatable), pods,
        )

    def pod(self, pod):
        return Pod(
            self.symbols[pod.namespace], pod.name, self._labels(pod.labels), dict(pod.annotations), pod.priority,
            self._amounts(pod.requests), self._labels(pod.node_selector), [self.symbols[i] for i in pod.images],
        )

    def chosen(self, words):
        """The nodes of a set, by number."""
        for at, word in enumerate(words):
            while word:
                lowest = word & -word
                node = self.nodes.get(at * _WORD_BITS + lowest.bit_length() - 1)
                if node is None:
                    raise Fault("asked about a node that was never told", retry=True)
                yield node
                word ^= lowest


class _Policy(Plugin):
    #: Whether nodes know their pods: it costs memory and time.
    wants_pods = False

    @property
    def cluster(self) -> Cluster:
        """All nodes, by number, in ``cluster.nodes``."""
        if not hasattr(self, "_cluster"):
            self._cluster = Cluster()
        return self._cluster

    def _make_view(seat):
        def apply(reset, deltas):
            if reset:
                seat._cluster = Cluster()
            for delta in deltas:
                seat.cluster.apply(delta)

        class Exported:
            def wants(self):
                return _view.Topics.PODS if seat.wants_pods else _view.Topics(0)

            def apply(self, reset, deltas):
                answer(lambda: apply(reset, deltas))

        return Exported

    _exports = {"View": _make_view}


class Filter(_Policy):
    """A policy that rules nodes out. Its world exports ``view`` and ``filter``."""

    def filter(self, pod: Pod, node: Node) -> Optional[str]:
        """Why the node cannot take the pod, short and without the node's name; nothing where it can."""
        raise NotImplementedError

    def _make(seat):
        def rule_out(pod, candidates):
            rows = {}
            for node in seat.cluster.chosen(candidates):
                reason = seat.filter(pod, node)
                if reason is not None:
                    rows.setdefault(reason, []).append(node.id)
            return [_types.Rejection(reason, True, _words(nodes)) for reason, nodes in rows.items()]

        class Exported:
            def filter(self, pod, candidates):
                return answer(lambda: rule_out(seat.cluster.pod(pod), candidates))

        return Exported

    _exports = {"Filter": _make}


class Score(_Policy):
    """A policy that prefers some nodes over others. Its world exports ``view`` and ``score``."""

    def score(self, pod: Pod, node: Node) -> float:
        """How good the node is for the pod, on a scale that ``normalize`` knows."""
        raise NotImplementedError

    def normalize(self, scores: list) -> list:
        """The scores from 0 to 100, higher is better; see ``by_highest`` and ``by_highest_reversed``."""
        return scores

    def _make(seat):
        def column(pod, candidates):
            scores = seat.normalize([seat.score(pod, node) for node in seat.cluster.chosen(candidates)])
            return [int(score) for score in scores]

        class Exported:
            def score(self, pod, candidates):
                return answer(lambda: column(seat.cluster.pod(pod), candidates))

        return Exported

    _exports = {"Score": _make}


def by_highest(scores: list) -> list:
    """The highest becomes 100, the others in proportion."""
    highest = max(scores, default=0)
    return [score * 100 // highest if highest > 0 else 0 for score in scores]


def by_highest_reversed(scores: list) -> list:
    """The highest becomes 0, none at all 100."""
    return [100 - score for score in by_highest(scores)]


def _words(nodes):
    words = [0] * (max(nodes) // _WORD_BITS + 1)
    for node in nodes:
        words[node // _WORD_BITS] |= 1 << node % _WORD_BITS
    return words
