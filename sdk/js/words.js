// How the contracts say what JavaScript says otherwise.

// Pairs, such as labels, as an object.
export const pairs = (given) => Object.fromEntries(given.map(({ key, value }) => [key, value]));

const EFFECTS = { 'no-schedule': 'NoSchedule', 'prefer-no-schedule': 'PreferNoSchedule', 'no-execute': 'NoExecute' };
// A taint's effect as Kubernetes writes it, and back.
export const effectName = (effect) => EFFECTS[effect];
export const effectOf = (name) => Object.keys(EFFECTS).find((effect) => EFFECTS[effect] === name);
