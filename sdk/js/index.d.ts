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
  /** Problem: what to watch, numbered from 0 in this order. */
  sources?(): Source[];
  /** Problem: a line of source number `source`. */
  onLine?(source: number, line: SourceLine, nowMs: number): Finding[];
  /** Sidecar: the lines that take this one's place; none drops it. */
  onLine?(line: LogLine): LogLine[];
  /** Problem: lines were lost before the next ones because the flood outran the bound. */
  onDropped?(source: number, dropped: number, nowMs: number): Finding[];
  /** Problem: a round of host metrics by name. */
  onSamples?(samples: Record<string, number>, nowMs: number): Finding[];
  /** Problem: time has passed. */
  onTick?(nowMs: number): Finding[];
  /** Problem: what the next revision is told, as anything that is JSON. */
  save?(): any;
  /** Problem: takes what the revision before saved; throw a `Fault` for a clean start. */
  restore?(state: any): void;
  /** Remedy: which actions to take now; `conditions` are by type, `history` is this plugin's own, oldest first. */
  decide?(
    node: RemedyNode, conditions: Record<string, Condition>, history: Past[], budget: number, nowMs: number,
  ): Decision[];
  /** Sidecar: told once, before the first line. */
  open?(context: Context): void;
  /** Sidecar: lines held back until now. */
  flush?(): LogLine[];
  /** Sidecar: the metrics pages to serve. */
  endpoints?(): Endpoint[];
  /** Sidecar: the workload's page in its new form. */
  translate?(context: Context, page: Page): Partial<Page>;
  /** Scheduler: why the node cannot take the pod, short; nothing where it can. */
  filter?(pod: Pod, node: Node): string | undefined;
  /** Scheduler: how good the node is, on a scale that `normalize` knows. */
  score?(pod: Pod, node: Node): number;
  /** Scheduler: the scores from 0 to 100, higher is better; see `byHighest`. */
  normalize?(scores: number[]): number[];
  /** Scheduler: whether nodes know their pods; it costs memory and time. */
  wantsPods?: boolean;
}

export interface SourceLine {
  text: string;
  /** Milliseconds since the Unix epoch, as everywhere below. */
  timeMs: number;
}
export type Source = { tag: 'lines' | 'samples' | 'ticks'; val: unknown };
/** A file, glob or `/dev/kmsg` that the plugin's `node-logs` grant covers. */
export function lines(path: string, lookbackMs?: number): Source;
/** The host's metrics every so many milliseconds. */
export function samples(everyMs: number): Source;
export function ticks(everyMs: number): Source;

export type Finding = { tag: 'condition' | 'event'; val: unknown };
/** The node's condition of that type is now true. Repeating it costs nothing. */
export function problem(type: string, reason: string, message: string): Finding;
/** The node's condition of that type is now false. */
export function well(type: string, reason: string, message: string): Finding;
export function event(reason: string, message: string, warning?: boolean): Finding;

export interface Taint {
  key: string;
  value?: string;
  effect: 'NoSchedule' | 'PreferNoSchedule' | 'NoExecute';
}
export interface RemedyNode {
  name: string;
  labels: Record<string, string>;
  unschedulable: boolean;
  taints: Taint[];
}
export interface Condition {
  type: string;
  status: 'True' | 'False' | 'Unknown';
  reason: string;
  message: string;
  sinceMs: number;
}
export interface Past {
  action: 'cordon' | 'uncordon' | 'taint' | 'untaint' | 'drain';
  taint?: Taint;
  atMs: number;
  succeeded: boolean;
}
export interface Decision {
  action: unknown;
  reason: string;
}
export function cordon(reason: string): Decision;
export function uncordon(reason: string): Decision;
/** Asks the eviction API for every pod of the node that is not a daemon's. */
export function drain(reason: string): Decision;
export function taint(taint: Taint, reason: string): Decision;
/** Removes the taint of that key and effect, whatever its value. */
export function untaint(taint: Taint, reason: string): Decision;

export interface Context {
  namespace: string;
  pod: string;
  container: string;
  labels: Record<string, string>;
}
export interface LogLine {
  text: string;
  stream: 'stdout' | 'stderr';
  timeMs: number;
}
export interface Endpoint {
  listenPort: number;
  listenPath?: string;
  upstreamPort: number;
  upstreamPath?: string;
}
export interface Page {
  contentType: string;
  body: string;
}

/** Amounts are in the resource's own unit: `cpu` in millicores, the rest in bytes. */
export interface Pod {
  namespace: string;
  /** Empty for a pod that is assigned already. */
  name: string;
  labels: Record<string, string>;
  annotations: Record<string, string>;
  priority: number;
  requests: Record<string, number>;
  nodeSelector: Record<string, string>;
  images: string[];
}
export interface Node {
  id: number;
  name: string;
  labels: Record<string, string>;
  taints: Taint[];
  unschedulable: boolean;
  allocatable: Record<string, number>;
  pods: Map<number, Pod>;
}
/** The highest becomes 100, the others in proportion. */
export function byHighest(scores: number[]): number[];
/** The highest becomes 0, none at all 100. */
export function byHighestReversed(scores: number[]): number[];

/** The component's exports: `export const { guest, validate } = plugin({...})`. */
export function plugin(description: Plugin): any;
