/** A question could not be answered. It is never a verdict: the plugin's failure policy decides. */
export class Fault extends Error {
  constructor(message: string, retry?: boolean);
}

export interface Request {
  uid: string;
  operation: 'CREATE' | 'UPDATE' | 'DELETE' | 'CONNECT';
  group: string;
  version: string;
  /** Plural, lower-case. */
  resource: string;
  subresource: string;
  kind: string;
  /** Empty for cluster-scoped kinds. */
  namespace: string;
  namespaceLabels: Record<string, string>;
  name: string;
  user: string;
  groups: string[];
  dryRun: boolean;
  /** Milliseconds since the Unix epoch. */
  nowMs: bigint;
}

/** An object of the request, on the host's side. Paths are JSON Pointers, such as `/spec/containers/0/image`. */
export class KubernetesObject {
  /** What is at the path; by default the whole object. */
  value(path?: string): any;
  text(path: string): string | undefined;
  exists(path: string): boolean;
  /** How many items an array, or members an object, has; 0 where there is none. */
  length(path: string): number;
  keys(path: string): string[];
}

export type Verdict = { tag: 'allow' | 'deny'; val: unknown };
export type Patch = { tag: 'add' | 'replace' | 'remove'; val: unknown };

/** Allowed; each text is sent to the client as a warning. */
export function allow(...warnings: string[]): Verdict;
/** Refused. The field is in Kubernetes' notation, such as `spec.containers[0].image`. */
export function deny(message: string, field?: string, code?: number): Verdict;
export function add(path: string, value: any): Patch;
export function replace(path: string, value: any): Patch;
export function remove(path: string): Patch;

export interface Plugin {
  name: string;
  version: string;
  summary: string;
  /** JSON Schema of the configuration; by default none is taken. */
  configSchema?: object;
  /** Called once, before anything else. */
  configure?(config: any): void;
  /** Admission: the object is absent on delete, the old one on create. */
  validate?(request: Request, object?: KubernetesObject, old?: KubernetesObject): Verdict;
  /** Admission: must be idempotent. */
  mutate?(request: Request, object?: KubernetesObject, old?: KubernetesObject): Patch[];
  /** Problem daemons, remedies and sidecars: as the contracts in `wit/deps` have it, in camelCase. */
  [question: string]: any;
}

/** The component's exports: `export const { guest, validate } = plugin({...})`. */
export function plugin(description: Plugin): any;
