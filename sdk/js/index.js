// What every Capstan plugin shares, whatever its world. `index.d.ts` documents it.
import { admission } from './admission.js';
import { monitor } from './problem.js';
import { remedy } from './remedy.js';
import { scheduler } from './scheduler.js';
import { sidecar } from './sidecar.js';

export { KubernetesObject, add, allow, deny, remove, replace } from './admission.js';
export { event, lines, problem, samples, ticks, well } from './problem.js';
export { cordon, drain, taint, uncordon, untaint } from './remedy.js';
export { byHighest, byHighestReversed } from './scheduler.js';

export class Fault extends Error {
  constructor(message, retry = false) {
    super(message);
    this.retry = retry;
  }
}

// Runs the author's code; whatever it throws becomes a fault with its place.
function answer(call) {
  try {
    return call();
  } catch (error) {
    const place = error instanceof Fault ? '' : (error?.stack ?? '').split('\n')[0].trim();
    const message = place ? `${error} (${place})` : String(error?.message ?? error);
    throw Object.assign(new Error(message), { payload: { message, retry: error?.retry === true } });
  }
}

const NONE = { type: 'object', additionalProperties: false };

// `exports` of a component: assign its members to the module's own.
export function plugin({ name, version, summary, configSchema = NONE, configure = () => {}, ...questions }) {
  return {
    guest: {
      describe: () => ({ name, version, summary, configSchema: JSON.stringify(configSchema) }),
      configure: (config) => answer(() => configure(JSON.parse(config))),
    },
    ...admission(questions, answer),
    ...monitor(questions, answer),
    ...remedy(questions, answer),
    ...sidecar(questions, answer),
    ...scheduler(questions, answer),
  };
}
