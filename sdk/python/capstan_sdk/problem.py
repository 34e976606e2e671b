"""Problem daemons: what is wrong with this node."""

import json
from dataclasses import dataclass
from typing import Any, Iterable, Optional

from wit_world.exports import monitor as _monitor

from . import Plugin, answer, shared


@dataclass
class Line:
    """A line of a source, without its line end."""

    text: str
    #: When it was logged, or read where it does not say. Milliseconds since the Unix epoch.
    time_ms: int


def lines(path: str, lookback_ms: int = 0):
    """A source: a file, glob or ``/dev/kmsg`` that the plugin's ``node-logs`` grant covers."""
    return _monitor.Source_Lines(_monitor.LineSource(path, lookback_ms))


def samples(every_ms: int):
    """A source: the host's metrics every so many milliseconds."""
    return _monitor.Source_Samples(every_ms)


def ticks(every_ms: int):
    """A source: ``on_tick`` every so many milliseconds."""
    return _monitor.Source_Ticks(every_ms)


def _condition(type_name, status, reason, message):
    return _monitor.Finding_Condition(_monitor.Condition(type_name, status, reason, message))


def problem(type_name: str, reason: str, message: str):
    """A finding: the node's condition of that type is now true. Repeating it costs nothing."""
    return _condition(type_name, shared.ConditionStatus.YES, reason, message)


def well(type_name: str, reason: str, message: str):
    """A finding: the node's condition of that type is now false."""
    return _condition(type_name, shared.ConditionStatus.NO, reason, message)


def event(reason: str, message: str, warning: bool = True):
    """A finding that leaves no condition behind."""
    kind = shared.EventType.WARNING if warning else shared.EventType.NORMAL
    return _monitor.Finding_Event(_monitor.Event(kind, reason, message))


class Monitor(Plugin):
    """A daemon. Only what its ``sources`` name is called; every handler gives findings, or nothing."""

    def sources(self) -> list:
        """What to watch: ``lines``, ``samples`` and ``ticks``, numbered from 0 in this order."""
        raise NotImplementedError

    def on_line(self, source: int, line: Line, now_ms: int) -> Optional[Iterable]:
        """A line of source number ``source``."""

    def on_dropped(self, source: int, dropped: int, now_ms: int) -> Optional[Iterable]:
        """Lines were lost before the next ones because the flood outran the bound."""

    def on_samples(self, samples: dict, now_ms: int) -> Optional[Iterable]:
        """A round of host metrics by name."""

    def on_tick(self, now_ms: int) -> Optional[Iterable]:
        """Time has passed."""

    def save(self) -> Any:
        """What the next revision is told, as anything that is JSON. Put a format number into it."""
        return None

    def restore(self, state: Any) -> None:
        """Takes what the revision before saved. Raise ``Fault`` for a clean start."""

    def _make_monitor(seat):
        def told(source, given, dropped, now_ms):
            found = list(seat.on_dropped(source, dropped, now_ms) or ()) if dropped else []
            for line in given:
                found.extend(seat.on_line(source, Line(line.text, line.time_ms), now_ms) or ())
            return found

        class Exported:
            def sources(self):
                return seat.sources()

            def on_lines(self, source, given, dropped, now_ms):
                return answer(lambda: told(source, given, dropped, now_ms))

            def on_samples(self, given, now_ms):
                values = {sample.name: sample.value for sample in given}
                return answer(lambda: list(seat.on_samples(values, now_ms) or ()))

            def on_tick(self, now_ms):
                return answer(lambda: list(seat.on_tick(now_ms) or ()))

        return Exported

    def _make_hand_off(seat):
        class Exported:
            def save_state(self):
                return json.dumps(seat.save()).encode()

            def restore_state(self, state):
                answer(lambda: seat.restore(json.loads(bytes(state))))

        return Exported

    _exports = {"Monitor": _make_monitor, "HandOff": _make_hand_off}
