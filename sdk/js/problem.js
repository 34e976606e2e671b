// The problem world: what is wrong with this node.

export const lines = (path, lookbackMs = 0) => ({ tag: 'lines', val: { path, lookbackMs: BigInt(lookbackMs) } });
export const samples = (everyMs) => ({ tag: 'samples', val: BigInt(everyMs) });
export const ticks = (everyMs) => ({ tag: 'ticks', val: BigInt(everyMs) });

const condition = (typeName, status, reason, message) => ({
  tag: 'condition',
  val: { typeName, status, reason, message },
});
export const problem = (type, reason, message) => condition(type, 'yes', reason, message);
export const well = (type, reason, message) => condition(type, 'no', reason, message);
export const event = (reason, message, warning = true) => ({
  tag: 'event',
  val: { eventType: warning ? 'warning' : 'normal', reason, message },
});

export function monitor(questions, answer) {
  const found = (question, ...told) => [...(questions[question]?.(...told) ?? [])];
  const onLines = (source, given, dropped, nowMs) => {
    const lost = dropped > 0n ? found('onDropped', source, Number(dropped), nowMs) : [];
    return lost.concat(
      given.flatMap(({ text, timeMs }) => found('onLine', source, { text, timeMs: Number(timeMs) }, nowMs)),
    );
  };
  return {
    monitor: {
      sources: () => questions.sources(),
      onLines: (source, given, dropped, nowMs) => answer(() => onLines(source, given, dropped, Number(nowMs))),
      onSamples: (given, nowMs) =>
        answer(() => {
          const values = Object.fromEntries(given.map(({ name, value }) => [name, value]));
          return found('onSamples', values, Number(nowMs));
        }),
      onTick: (nowMs) => answer(() => found('onTick', Number(nowMs))),
    },
    handOff: {
      saveState: () => bytes(JSON.stringify(questions.save?.() ?? null)),
      restoreState: (state) => answer(() => questions.restore?.(JSON.parse(text(state)))),
    },
  };
}

const bytes = (text) => new TextEncoder().encode(text);
const text = (bytes) => new TextDecoder().decode(bytes);
