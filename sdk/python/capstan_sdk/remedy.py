"""Remedies: what to do about a node whose conditions say that something is wrong, and when to undo it."""

from dataclasses import dataclass
from typing import Optional

from wit_world.exports import decide as _decide

from . import Plugin, answer, shared, texts

_EFFECTS = {
    "NoSchedule": _decide.TaintEffect.NO_SCHEDULE,
    "PreferNoSchedule": _decide.TaintEffect.PREFER_NO_SCHEDULE,
    "NoExecute": _decide.TaintEffect.NO_EXECUTE,
}
_EFFECT_NAMES = {effect: name for name, effect in _EFFECTS.items()}
_STATUS = {
    shared.ConditionStatus.YES: "True",
    shared.ConditionStatus.NO: "False",
    shared.ConditionStatus.UNKNOWN: "Unknown",
}


@dataclass(frozen=True)
class Taint:
    key: str
    value: str
    #: ``NoSchedule``, ``PreferNoSchedule`` or ``NoExecute``.
    effect: str

    @staticmethod
    def _of(taint):
        return Taint(taint.key, taint.value, _EFFECT_NAMES[taint.effect])

    def _told(self):
        return _decide.Taint(self.key, self.value, _EFFECTS[self.effect])


@dataclass
class Node:
    name: str
    labels: dict
    unschedulable: bool
    taints: list


@dataclass
class Condition:
    type: str
    #: ``True``, ``False`` or ``Unknown``, as Kubernetes writes them.
    status: str
    reason: str
    message: str
    #: Milliseconds since the Unix epoch.
    since_ms: int


@dataclass
class Past:
    """One of this plugin's own actions on the node."""

    #: ``cordon``, ``uncordon``, ``taint``, ``untaint`` or ``drain``.
    action: str
    taint: Optional[Taint]
    at_ms: int
    succeeded: bool

    @staticmethod
    def _of(past):
        name = type(past.action).__name__.removeprefix("Action_").lower()
        taint = getattr(past.action, "value", None)
        return Past(name, taint and Taint._of(taint), past.at_ms, past.succeeded)


def cordon(reason: str):
    return _decide.Decision(_decide.Action_Cordon(), reason)


def uncordon(reason: str):
    return _decide.Decision(_decide.Action_Uncordon(), reason)


def taint(taint: Taint, reason: str):
    """Adds the taint, or changes its value."""
    return _decide.Decision(_decide.Action_Taint(taint._told()), reason)


def untaint(taint: Taint, reason: str):
    """Removes the taint of that key and effect, whatever its value."""
    return _decide.Decision(_decide.Action_Untaint(taint._told()), reason)


def drain(reason: str):
    """Asks the eviction API for every pod of the node that is not a daemon's."""
    return _decide.Decision(_decide.Action_Drain(), reason)


class Remedy(Plugin):
    """A remedy. It keeps nothing: all that it may weigh is in the call, so that it replays."""

    def decide(self, node: Node, conditions: dict, history: list, budget: int, now_ms: int) -> list:
        """Which actions to take now, each by ``cordon`` and its like; none is the usual answer.

        ``conditions`` holds a ``Condition`` by type, ``history`` this plugin's own ``Past`` on the node, oldest
        first; ``budget`` is how many further nodes it may put out of service.
        """
        raise NotImplementedError

    def _make(seat):
        def decide(node, conditions, history, budget, now_ms):
            facts = Node(node.name, texts(node.labels), node.unschedulable, [Taint._of(taint) for taint in node.taints])
            by_type = {
                c.type_name: Condition(c.type_name, _STATUS[c.status], c.reason, c.message, c.since_ms)
                for c in conditions
            }
            return list(seat.decide(facts, by_type, [Past._of(past) for past in history], budget, now_ms) or ())

        class Exported:
            def decide(self, *told):
                return answer(lambda: decide(*told))

        return Exported

    _exports = {"Decide": _make}
