"""A sidecar to start from: it hides what follows ``password=`` in log lines and drops lines that start with ``DEBUG``."""

import re

from capstan_sdk import plugin
from capstan_sdk.sidecar import Logs

SECRET = re.compile("password=[^ ]*")


@plugin
class TidyLogs(Logs):
    name = "my-sidecar"
    version = "0.1.0"
    summary = "Hides passwords in log lines"

    def on_line(self, line):
        if not line.text.startswith("DEBUG"):
            yield line.saying(SECRET.sub("password=***", line.text))
