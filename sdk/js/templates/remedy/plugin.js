// A remedy to start from: it closes a node while its disk fails, and opens it again if it was the one who closed it.
import { cordon, plugin, uncordon } from './capstan/sdk/js/index.js';

const CONDITION = 'DiskFailing';

export const { guest, decide } = plugin({
  name: 'my-remedy',
  version: '0.1.0',
  summary: 'Closes nodes with failing disks',

  decide(node, conditions, history) {
    const isSick = conditions[CONDITION]?.status === 'True';
    const closedByUs = history.at(-1)?.action === 'cordon';
    if (isSick && !node.unschedulable) return [cordon(`${CONDITION} is true`)];
    if (!isSick && node.unschedulable && closedByUs) return [uncordon(`${CONDITION} is over`)];
    return [];
  },
});
