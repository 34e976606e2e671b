"""A problem daemon to start from: a condition that one line of a log sets and another clears.

Its file must be granted: ``capabilities: [{ name: node-logs, paths: [/var/log/disk.log] }]``.
"""

from capstan_sdk import plugin
from capstan_sdk.problem import Monitor, lines, problem, well

CONDITION = "DiskFailing"


@plugin
class DiskFailing(Monitor):
    name = "my-problem"
    version = "0.1.0"
    summary = "Reports a disk that cannot be read"
    config_schema = {
        "type": "object", "required": ["path"], "additionalProperties": False,
        "properties": {"path": {"type": "string", "pattern": "^/"}},
    }

    def configure(self, config):
        self.path = config["path"]

    def sources(self):
        return [lines(self.path, lookback_ms=60_000)]  # what was logged while it started counts

    def on_line(self, source, line, now_ms):
        if "I/O error" in line.text:
            yield problem(CONDITION, "InputOutputError", line.text)
        elif "disk replaced" in line.text:
            yield well(CONDITION, "DiskReplaced", line.text)
