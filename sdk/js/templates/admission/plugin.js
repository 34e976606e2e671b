// An admission policy to start from: it refuses pods whose images have no tag.
import { allow, deny, plugin } from './capstan/sdk/js/index.js';

export const { guest, validate } = plugin({
  name: 'my-admission',
  version: '0.1.0',
  summary: 'Refuses images without a tag',

  validate(request, object) {
    // Absent when something is deleted.
    for (const [at, { image = '' }] of (object?.value('/spec/containers') ?? []).entries()) {
      if (!/[:@]/.test(image.split('/').at(-1))) {
        return deny(`${image} has no tag: write ${image}:VERSION`, `spec.containers[${at}].image`);
      }
    }
    return allow();
  },
});
