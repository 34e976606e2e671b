// A sidecar to start from: it hides what follows password= in log lines and drops lines that start with DEBUG.
import { plugin } from './capstan/sdk/js/index.js';

export const { guest, logs } = plugin({
  name: 'my-sidecar',
  version: '0.1.0',
  summary: 'Hides passwords in log lines',

  onLine(line) {
    if (line.text.startsWith('DEBUG')) return [];
    return [{ ...line, text: line.text.replace(/password=[^ ]*/g, 'password=***') }];
  },
});
