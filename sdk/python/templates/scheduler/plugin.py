"""A scheduler policy to start from: nodes in maintenance are out, and of the rest the fewer taints the better."""

from capstan_sdk import plugin
from capstan_sdk.scheduler import Filter, Score, by_highest_reversed


@plugin
class FewestTaints(Filter, Score):
    name = "my-scheduler"
    version = "0.1.0"
    summary = "Prefers nodes with few taints"

    def filter(self, pod, node):
        if node.labels.get("maintenance") == "true" and pod.labels.get("maintenance") != "true":
            return "node(s) were in maintenance"

    def score(self, pod, node):
        return len(node.taints)

    def normalize(self, scores):
        return by_highest_reversed(scores)  # most taints: 0, none: 100
