// A problem daemon to start from: a condition that one line of a log sets and another clears.
// Its file must be granted: capabilities: [{ name: node-logs, paths: [/var/log/disk.log] }].
import { lines, plugin, problem, well } from './capstan/sdk/js/index.js';

const CONDITION = 'DiskFailing';
let path;

export const { guest, handOff, monitor } = plugin({
  name: 'my-problem',
  version: '0.1.0',
  summary: 'Reports a disk that cannot be read',
  configSchema: {
    type: 'object', required: ['path'], additionalProperties: false,
    properties: { path: { type: 'string', pattern: '^/' } },
  },

  configure(config) {
    path = config.path;
  },

  sources: () => [lines(path, 60_000)], // what was logged while it started counts

  onLine(source, { text }) {
    if (text.includes('I/O error')) return [problem(CONDITION, 'InputOutputError', text)];
    if (text.includes('disk replaced')) return [well(CONDITION, 'DiskReplaced', text)];
    return [];
  },
});
