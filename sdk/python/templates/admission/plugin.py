"""An admission policy to start from: it refuses pods whose images have no tag."""

from capstan_sdk import plugin
from capstan_sdk.admission import Validate, allow, deny


@plugin
class TaggedImages(Validate):
    name = "my-admission"
    version = "0.1.0"
    summary = "Refuses images without a tag"

    def validate(self, request, object, old):
        if object is None:  # something is deleted
            return allow()
        for at, container in enumerate(object.value("/spec/containers") or []):
            image = container.get("image", "")
            if ":" not in image.rsplit("/", 1)[-1] and "@" not in image:
                message = f"{image} has no tag: write {image}:VERSION"
                return deny(message, field=f"spec.containers[{at}].image")
        return allow()
