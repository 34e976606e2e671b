// The remedy world: what to do about a sick node, and when to undo it.
import { effectName, effectOf, pairs } from './words.js';

const decision = (action, reason) => ({ action, reason });
const told = ({ key, value = '', effect }) => ({ key, value, effect: effectOf(effect) });
export const cordon = (reason) => decision({ tag: 'cordon' }, reason);
export const uncordon = (reason) => decision({ tag: 'uncordon' }, reason);
export const drain = (reason) => decision({ tag: 'drain' }, reason);
export const taint = (taint, reason) => decision({ tag: 'taint', val: told(taint) }, reason);
export const untaint = (taint, reason) => decision({ tag: 'untaint', val: told(taint) }, reason);

const STATUS = { yes: 'True', no: 'False', unknown: 'Unknown' };
const read = (taint) => ({ ...taint, effect: effectName(taint.effect) });

export function remedy(questions, answer) {
  const decide = (node, conditions, history, budget, nowMs) => {
    const byType = conditions.map(({ typeName, status, sinceMs, ...rest }) => [
      typeName,
      { type: typeName, status: STATUS[status], sinceMs: Number(sinceMs), ...rest },
    ]);
    const past = history.map(({ action, atMs, succeeded }) => ({
      action: action.tag,
      taint: action.val && read(action.val),
      atMs: Number(atMs),
      succeeded,
    }));
    const facts = { ...node, labels: pairs(node.labels), taints: node.taints.map(read) };
    return questions.decide(facts, Object.fromEntries(byType), past, budget, Number(nowMs)) ?? [];
  };
  return { decide: { decide: (...given) => answer(() => decide(...given)) } };
}
