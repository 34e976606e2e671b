"""A remedy to start from: it closes a node while its disk fails, and opens it again if it was the one who closed it."""

from capstan_sdk import plugin
from capstan_sdk.remedy import Remedy, cordon, uncordon

CONDITION = "DiskFailing"


@plugin
class CloseNode(Remedy):
    name = "my-remedy"
    version = "0.1.0"
    summary = "Closes nodes with failing disks"

    def decide(self, node, conditions, history, budget, now_ms):
        is_sick = CONDITION in conditions and conditions[CONDITION].status == "True"
        closed_by_us = bool(history) and history[-1].action == "cordon"
        if is_sick and not node.unschedulable:
            return [cordon(f"{CONDITION} is true")]
        if not is_sick and node.unschedulable and closed_by_us:
            return [uncordon(f"{CONDITION} is over")]
        return []
