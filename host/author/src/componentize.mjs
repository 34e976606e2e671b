// Run by `capstan plugin build` in the project's folder, with the component's path as its argument.
import { existsSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';

const name = '@bytecodealliance/componentize-js';

// The package's folder, in the project or above it as Node.js looks for it, or where the variable says.
function find() {
  const places = [];
  for (let folder = process.cwd(); ; folder = dirname(folder)) {
    places.push(folder);
    if (folder === dirname(folder)) break;
  }
  if (process.env.CAPSTAN_NODE_MODULES) places.push(process.env.CAPSTAN_NODE_MODULES);
  return places.map((place) => join(place, 'node_modules', name)).find((folder) => existsSync(folder));
}

const folder = find();
if (!folder) {
  console.error(`there is no ${name}: run \`npm install --save-dev ${name}\` in ${process.cwd()}`);
  process.exit(1);
}
const { exports } = JSON.parse(await readFile(join(folder, 'package.json')));
const { componentize } = await import(pathToFileURL(join(folder, exports.import)));
const { component } = await componentize({
  sourcePath: 'plugin.js',
  witPath: 'wit',
  worldName: 'plugin',
  // A plugin reaches nothing that was not granted.
  disableFeatures: ['stdio', 'random', 'clocks', 'http', 'fetch-event'],
});
await writeFile(process.argv.at(-1), component);
