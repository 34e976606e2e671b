// The scheduler world: which nodes can take a pod, and which of them is best. The host tells the cluster once and then
// what changes; this keeps it as plain objects and asks the author about one node at a time.
import { effectName } from './words.js';

const WORD_BITS = 64;

class Cluster {
  symbols = [''];
  nodes = new Map();
  #places = new Map();

  apply({ tag, val }) {
    switch (tag) {
      case 'symbols':
        this.#learn(...val);
        break;
      case 'node-upserted':
        this.nodes.set(val.id, this.#node(val, this.nodes.get(val.id)?.pods ?? new Map()));
        break;
      case 'node-removed':
        this.nodes.delete(val);
        break;
      case 'pod-upserted':
        this.#remove(val.id);
        this.nodes.get(val.node)?.pods.set(val.id, this.pod(val.pod));
        this.#places.set(val.id, val.node);
        break;
      case 'pod-removed':
        this.#remove(val);
        break;
    }
  }

  #learn(first, names) {
    if (first > this.symbols.length) {
      throw Object.assign(new Error(`symbol ${first} does not follow the ${this.symbols.length} known`), { retry: true });
    }
    this.symbols.splice(first, names.length, ...names);
  }

  #remove(pod) {
    this.nodes.get(this.#places.get(pod))?.pods.delete(pod);
    this.#places.delete(pod);
  }

  #labels(labels) {
    return Object.fromEntries(labels.map(({ key, value }) => [this.symbols[key], this.symbols[value]]));
  }

  #amounts(amounts) {
    return Object.fromEntries(amounts.map(({ resource, value }) => [this.symbols[resource], Number(value)]));
  }

  #node(node, pods) {
    return {
      id: node.id,
      name: this.symbols[node.name],
      labels: this.#labels(node.labels),
      taints: node.taints.map(({ key, value, effect }) => ({
        key: this.symbols[key],
        value: this.symbols[value],
        effect: effectName(effect),
      })),
      unschedulable: node.unschedulable,
      allocatable: this.#amounts(node.allocatable),
      pods,
    };
  }

  pod(pod) {
    return {
      namespace: this.symbols[pod.namespace],
      name: pod.name,
      labels: this.#labels(pod.labels),
      annotations: Object.fromEntries(pod.annotations),
      priority: pod.priority,
      requests: this.#amounts(pod.requests),
      nodeSelector: this.#labels(pod.nodeSelector),
      images: [...pod.images].map((image) => this.symbols[image]),
    };
  }

  // The nodes of a set, by number.
  chosen(words) {
    const found = [];
    words.forEach((word, at) => {
      for (let bit = 0, rest = word; rest; bit++, rest >>= 1n) {
        if (rest & 1n) found.push(this.#told(at * WORD_BITS + bit));
      }
    });
    return found;
  }

  #told(id) {
    const node = this.nodes.get(id);
    if (!node) throw Object.assign(new Error('asked about a node that was never told'), { retry: true });
    return node;
  }
}

export function scheduler(questions, answer) {
  let cluster = new Cluster();
  const apply = (reset, deltas) => {
    if (reset) cluster = new Cluster();
    for (const delta of deltas) cluster.apply(delta);
  };
  const filter = (pod, candidates) => {
    const rows = new Map();
    for (const node of cluster.chosen(candidates)) {
      const reason = questions.filter(pod, node);
      if (reason !== undefined) rows.set(reason, [...(rows.get(reason) ?? []), node.id]);
    }
    return [...rows].map(([reason, nodes]) => ({ reason, resolvable: true, nodes: words(nodes) }));
  };
  const score = (pod, candidates) => {
    const scores = cluster.chosen(candidates).map((node) => questions.score(pod, node));
    return Int32Array.from((questions.normalize ?? ((same) => same))(scores));
  };
  return {
    view: {
      wants: () => ({ pods: questions.wantsPods === true, starts: false, namespaces: false, budgets: false }),
      apply: (reset, deltas) => answer(() => apply(reset, deltas)),
    },
    filter: { filter: (pod, candidates) => answer(() => filter(cluster.pod(pod), candidates)) },
    score: { score: (pod, candidates) => answer(() => score(cluster.pod(pod), candidates)) },
  };
}

export function byHighest(scores) {
  const highest = Math.max(0, ...scores);
  return scores.map((score) => (highest > 0 ? Math.floor((score * 100) / highest) : 0));
}

export const byHighestReversed = (scores) => byHighest(scores).map((score) => 100 - score);

function words(nodes) {
  const words = new BigUint64Array(Math.floor(Math.max(...nodes) / WORD_BITS) + 1);
  for (const node of nodes) words[Math.floor(node / WORD_BITS)] |= 1n << BigInt(node % WORD_BITS);
  return words;
}
