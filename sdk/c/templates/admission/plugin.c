/* An admission policy to start from: it refuses pods whose images have no tag. */
#include "capstan.h"

const capstan_description capstan_plugin = {
    CAPSTAN_TEXT("my-admission"),
    CAPSTAN_TEXT("0.1.0"),
    CAPSTAN_TEXT("Refuses images without a tag"),
    CAPSTAN_TEXT("{\"type\":\"object\",\"additionalProperties\":false}"),
};

#define JOIN(...) \
  capstan_join((const capstan_text[]){__VA_ARGS__}, sizeof((const capstan_text[]){__VA_ARGS__}) / sizeof(capstan_text))

static bool has_tag(capstan_text image) {
  for (uint32_t i = image.length; i-- > 0 && image.at[i] != '/';) {
    if (image.at[i] == ':' || image.at[i] == '@') return true;
  }
  return false;
}

capstan_verdict capstan_validate(const capstan_request *request, capstan_document object, capstan_document old) {
  (void)request, (void)old;
  uint32_t containers = capstan_length(object, CAPSTAN_TEXT("/spec/containers"));
  for (uint32_t i = 0; i < containers; i++) {
    capstan_text at = capstan_decimal(i), image;
    if (!capstan_get_text(object, JOIN(CAPSTAN_TEXT("/spec/containers/"), at, CAPSTAN_TEXT("/image")), &image)) continue;
    if (has_tag(image)) continue;
    return (capstan_verdict){
        .denied = true,
        .message = JOIN(image, CAPSTAN_TEXT(" has no tag: write "), image, CAPSTAN_TEXT(":VERSION")),
        .field = JOIN(CAPSTAN_TEXT("spec.containers["), at, CAPSTAN_TEXT("].image")),
    };
  }
  return (capstan_verdict){0};
}
