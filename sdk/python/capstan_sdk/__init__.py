"""What every Capstan plugin shares, whatever its world. See the README beside this folder."""

import json
import sys
import traceback

from componentize_py_types import Err
from wit_world.exports.guest import Description

try:
    from wit_world.imports import capstan_plugin_types as _types
except ImportError:  # no other contract of this plugin's world has types of its own
    from wit_world.imports import types as _types


class Fault(Exception):
    """A question could not be answered. It is never a verdict: the plugin's failure policy decides."""

    def __init__(self, message: str, retry: bool = False):
        super().__init__(message)
        self.retry = retry


class Plugin:
    """What a plugin says of itself, and its configuration."""

    name = ""
    version = "0.1.0"
    summary = ""
    #: JSON Schema of the configuration, by which the host refuses a bad one.
    config_schema: dict = {"type": "object", "additionalProperties": False}

    def configure(self, config: dict) -> None:
        """Called once, before anything else, with a configuration that fits the schema."""

    #: The exports that a world's class stands for: a name, and a class made of the plugin.
    _exports: dict = {}


#: The types that all contracts share, under the name that this plugin's world gives them.
shared = _types


def texts(pairs) -> dict:
    """Pairs of the contracts, such as labels, as a dictionary."""
    return {pair.key: pair.value for pair in pairs}


def answer(call):
    """Runs the author's code; whatever it raises becomes a fault with its file and line."""
    try:
        return call()
    except Err:
        raise
    except Fault as fault:
        raise Err(_types.Fault(str(fault), fault.retry)) from fault
    except Exception as error:  # an author's mistake must not end the instance without a word
        frame = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{frame.filename.removeprefix('/0/')}:{frame.lineno}"
        raise Err(_types.Fault(f"{place}: {type(error).__name__}: {error}", False)) from error


def plugin(cls):
    """Makes the class the component: its module exports what the class's worlds are."""
    seat = cls()

    class Guest:
        def describe(self):
            return Description(cls.name, cls.version, cls.summary, json.dumps(cls.config_schema))

        def configure(self, config):
            answer(lambda: seat.configure(json.loads(config)))

    module = sys.modules[cls.__module__]
    module.Guest = Guest
    for base in cls.__mro__:
        for name, make in vars(base).get("_exports", {}).items():
            setattr(module, name, make(seat))
    return cls
