// The admission world: may an object be written, and what is set on it before it is.
import { pairs } from './words.js';

export function admission(questions, answer) {
  const asked = (question) => (request, object, old) =>
    answer(() => questions[question](read(request), wrap(object), wrap(old)));
  return { validate: { validate: asked('validate') }, mutate: { mutate: asked('mutate') } };
}

function read(request) {
  return {
    ...request,
    operation: request.operation.toUpperCase(),
    namespaceLabels: pairs(request.namespaceLabels),
  };
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
