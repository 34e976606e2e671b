"""Sidecars: what happens to a pod's log lines, and in which form its metrics are served."""

from dataclasses import dataclass, replace
from typing import Iterable, Optional

from wit_world.imports import capstan_sidecar_types as _types

from . import Plugin, answer, texts


@dataclass
class Context:
    """Whose lines or metrics they are."""

    namespace: str
    pod: str
    container: str
    labels: dict

    @staticmethod
    def _of(context):
        return Context(context.namespace, context.pod, context.container, texts(context.labels))


@dataclass
class Line:
    text: str
    #: ``stdout`` or ``stderr``.
    stream: str
    #: Milliseconds since the Unix epoch.
    time_ms: int

    def saying(self, text: str) -> "Line":
        """The same line with another text."""
        return replace(self, text=text)

    def _told(self):
        return _types.Line(self.time_ms, _types.Stream[self.stream.upper()], self.text)


class Logs(Plugin):
    """A policy that transforms log lines before they are stored. One instance serves one stream."""

    def open(self, context: Context) -> None:
        """Told once, before the first line."""

    def on_line(self, line: Line) -> Optional[Iterable[Line]]:
        """The lines that take this one's place; none drops it."""
        raise NotImplementedError

    def flush(self) -> Iterable[Line]:
        """Lines held back until now; the stream ends."""
        return ()

    def _make(seat):
        def told(lines):
            return [line._told() for line in lines or ()]

        def on_lines(lines):
            given = (Line(line.text, line.stream.name.lower(), line.time_ms) for line in lines)
            return [line for one in given for line in told(seat.on_line(one))]

        class Exported:
            def open(self, context):
                answer(lambda: seat.open(Context._of(context)))

            def on_lines(self, lines):
                return answer(lambda: on_lines(lines))

            def flush(self):
                return answer(lambda: told(seat.flush()))

        return Exported

    _exports = {"Logs": _make}


@dataclass
class Endpoint:
    """Where the translated page is served on the pod's address, and where the workload serves its own."""

    listen_port: int
    upstream_port: int
    listen_path: str = "/metrics"
    upstream_path: str = "/metrics"


@dataclass
class Page:
    body: str
    content_type: str = "text/plain; version=0.0.4"


class Adapter(Plugin):
    """A policy that presents a workload's metrics in another form. Its world exports ``capstan:sidecar/adapter``."""

    def endpoints(self) -> list:
        """What to serve for each selected pod, an ``Endpoint`` each."""
        raise NotImplementedError

    def translate(self, context: Context, page: Page) -> Page:
        """The workload's page in its new form."""
        raise NotImplementedError

    def _make(seat):
        from wit_world.exports import adapter  # there only where the world exports it

        def translate(context, page):
            told = seat.translate(Context._of(context), Page(page.body, page.content_type))
            return adapter.Page(told.content_type, told.body)

        class Exported:
            def endpoints(self):
                return [
                    adapter.Endpoint(one.listen_port, one.listen_path, one.upstream_port, one.upstream_path)
                    for one in seat.endpoints()
                ]

            def translate(self, context, page):
                return answer(lambda: translate(context, page))

        return Exported

    _exports = {"Adapter": _make}
