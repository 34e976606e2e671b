// A scheduler policy to start from: nodes in maintenance are out, and of the rest the fewer taints the better.
import { byHighestReversed, plugin } from './capstan/sdk/js/index.js';

export const { guest, view, filter, score } = plugin({
  name: 'my-scheduler',
  version: '0.1.0',
  summary: 'Prefers nodes with few taints',

  filter(pod, node) {
    if (node.labels.maintenance === 'true' && pod.labels.maintenance !== 'true') return 'node(s) were in maintenance';
  },

  score: (pod, node) => node.taints.length,

  normalize: byHighestReversed, // most taints: 0, none: 100
});
