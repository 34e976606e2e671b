"""Admission policies: may an object be written, and what is set on it before it is."""

import json
from dataclasses import dataclass
from typing import Any, Optional

from wit_world.imports import capstan_admission_types as _types

from . import Plugin, answer, texts


@dataclass
class Request:
    """A request without its objects."""

    #: ``CREATE``, ``UPDATE``, ``DELETE`` or ``CONNECT``.
    operation: str
    group: str
    version: str
    #: Plural, lower-case.
    resource: str
    subresource: str
    kind: str
    #: Empty for cluster-scoped kinds.
    namespace: str
    namespace_labels: dict
    name: str
    user: str
    groups: list
    dry_run: bool
    #: Milliseconds since the Unix epoch.
    now_ms: int

    @staticmethod
    def _of(request):
        return Request(
            request.operation.name, request.group, request.version, request.resource, request.subresource,
            request.kind, request.namespace, texts(request.namespace_labels),
            request.name, request.user, request.groups, request.dry_run, request.now_ms,
        )


class Object:
    """An object of the request, on the host's side: what is not read is not copied.

    Paths are JSON Pointers, such as ``/spec/containers/0/image``.
    """

    def __init__(self, document):
        self._document = document

    def value(self, path: str = "") -> Any:
        """What is at the path, as Python has it; by default the whole object. None where nothing is."""
        text = self._document.json(path)
        return None if text is None else json.loads(text)

    def text(self, path: str) -> Optional[str]:
        return self._document.text(path)

    def integer(self, path: str) -> Optional[int]:
        return self._document.integer(path)

    def boolean(self, path: str) -> Optional[bool]:
        return self._document.boolean(path)

    def exists(self, path: str) -> bool:
        return self._document.exists(path)

    def length(self, path: str) -> int:
        """How many items an array, or members an object, has; 0 where there is none."""
        return self._document.length(path) or 0

    def keys(self, path: str) -> list:
        return self._document.keys(path) or []


def _object(document):
    return None if document is None else Object(document)


def allow(*warnings: str):
    """Allowed; each text is sent to the client as a warning."""
    return _types.Verdict_Allow(list(warnings))


def deny(message: str, field: Optional[str] = None, code: int = 403):
    """Refused. The field is in Kubernetes' notation, such as ``spec.containers[0].image``."""
    return _types.Verdict_Deny(_types.Denial(code, message, field))


def add(path: str, value: Any):
    """Sets a field, or inserts an item."""
    return _types.Patch_Add(_types.Edit(path, json.dumps(value)))


def replace(path: str, value: Any):
    """Changes a field that is there."""
    return _types.Patch_Replace(_types.Edit(path, json.dumps(value)))


def remove(path: str):
    """Removes a field."""
    return _types.Patch_Remove(path)


class Validate(Plugin):
    """A policy that allows or denies."""

    def validate(self, request: Request, object: Optional[Object], old: Optional[Object]):
        """Gives ``allow()`` or ``deny(...)``. The object is absent on delete, the old one on create."""
        raise NotImplementedError

    def _make(seat):
        class Exported:
            def validate(self, request, object, old):
                return answer(lambda: seat.validate(Request._of(request), _object(object), _object(old)))

        return Exported

    _exports = {"Validate": _make}


class Mutate(Plugin):
    """A policy that sets fields. It must be idempotent: it runs again when a later one changed what it saw."""

    def mutate(self, request: Request, object: Optional[Object], old: Optional[Object]) -> list:
        """Gives a list of ``add``, ``replace`` and ``remove``."""
        raise NotImplementedError

    def _make(seat):
        class Exported:
            def mutate(self, request, object, old):
                return answer(lambda: seat.mutate(Request._of(request), _object(object), _object(old)))

        return Exported

    _exports = {"Mutate": _make}
