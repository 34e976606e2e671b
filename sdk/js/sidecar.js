// The sidecar world: what happens to a pod's log lines, and in which form its metrics are served.
import { pairs } from './words.js';

const read = (context) => ({ ...context, labels: pairs(context.labels) });
const line = ({ text, stream, timeMs }) => ({ text, stream, timeMs: Number(timeMs) });
const told = (lines) => [...(lines ?? [])].map((line) => ({ ...line, timeMs: BigInt(line.timeMs) }));

export function sidecar(questions, answer) {
  return {
    logs: {
      open: (context) => answer(() => questions.open?.(read(context))),
      onLines: (lines) => answer(() => lines.flatMap((given) => told(questions.onLine(line(given))))),
      flush: () => answer(() => told(questions.flush?.())),
    },
    adapter: {
      endpoints: () =>
        questions
          .endpoints()
          .map((one) => ({ listenPath: '/metrics', upstreamPath: '/metrics', ...one })),
      translate: (context, page) => answer(() => ({ ...page, ...questions.translate(read(context), page) })),
    },
  };
}
