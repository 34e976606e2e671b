// What every Capstan plugin shares, and the words of the admission world. `index.d.ts` documents it.

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
  const asked = (question) => (...given) => answer(() => questions[question](...given));
  const admission = (question) => (request, object, old) =>
    answer(() => questions[question](read(request), wrap(object), wrap(old)));
  return {
    guest: {
      describe: () => ({ name, version, summary, configSchema: JSON.stringify(configSchema) }),
      configure: (config) => answer(() => configure(JSON.parse(config))),
    },
    validate: { validate: admission('validate') },
    mutate: { mutate: admission('mutate') },
    monitor: {
      sources: () => questions.sources(),
      onLines: asked('onLines'),
      onSamples: asked('onSamples'),
      onTick: asked('onTick'),
    },
    decide: { decide: asked('decide') },
    logs: { open: asked('open'), onLines: asked('onLines'), flush: asked('flush') },
  };
}

function read(request) {
  const namespaceLabels = Object.fromEntries(request.namespaceLabels.map(({ key, value }) => [key, value]));
  return { ...request, operation: request.operation.toUpperCase(), namespaceLabels };
}

function wrap(document) {
  return document === undefined ? undefined : new KubernetesObject(document);
}

// An object of the request, on the host's side: what is not read is not copied.
export class KubernetesObject {
  #document;

  constructor(document) {
    this.#document = document;
  }

  value(path = '') {
    const text = this.#document.json(path);
    return text === undefined ? undefined : JSON.parse(text);
  }

  text(path) {
    return this.#document.text(path);
  }

  exists(path) {
    return this.#document.exists(path);
  }

  length(path) {
    return this.#document.length(path) ?? 0;
  }

  keys(path) {
    return this.#document.keys(path) ?? [];
  }
}

export const allow = (...warnings) => ({ tag: 'allow', val: warnings });
export const deny = (message, field = undefined, code = 403) => ({ tag: 'deny', val: { code, message, field } });
export const add = (path, value) => ({ tag: 'add', val: { path, value: JSON.stringify(value) } });
export const replace = (path, value) => ({ tag: 'replace', val: { path, value: JSON.stringify(value) } });
export const remove = (path) => ({ tag: 'remove', val: path });
