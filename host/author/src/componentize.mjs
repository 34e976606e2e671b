// Run by `capstan plugin build` in the project's folder, with the component's path as its argument.
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';
import { writeFile } from 'node:fs/promises';

const places = [process.cwd() + '/', ...(process.env.CAPSTAN_NODE_MODULES ? [process.env.CAPSTAN_NODE_MODULES + '/'] : [])];
const name = '@bytecodealliance/componentize-js';
let found;
for (const place of places) {
  try {
    found ??= createRequire(place).resolve(name);
  } catch {}
}
if (!found) {
  console.error(`there is no ${name}: run \`npm install --save-dev ${name}\` in ${process.cwd()}`);
  process.exit(1);
}
const { componentize } = await import(pathToFileURL(found));
const { component } = await componentize({
  sourcePath: 'plugin.js',
  witPath: 'wit',
  worldName: 'plugin',
  // A plugin reaches nothing that was not granted.
  disableFeatures: ['stdio', 'random', 'clocks', 'http', 'fetch-event'],
});
await writeFile(process.argv.at(-1), component);
