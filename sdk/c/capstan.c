/* Between capstan.h and the component model's canonical form. */
#include "capstan.h"

#define EXPORT(name) __attribute__((export_name(name)))
#define DOCUMENTS(name) __attribute__((import_module("capstan:admission/documents@0.1.0"), import_name(name)))

#define PAGE 65536

extern char __heap_base;
static uintptr_t heap;

void *capstan_allocate(uint32_t size) {
  if (!heap) heap = (uintptr_t)&__heap_base;
  uintptr_t at = (heap + 15) & ~(uintptr_t)15;
  heap = at + size;
  uintptr_t end = (uintptr_t)__builtin_wasm_memory_size(0) * PAGE;
  if (heap < at) __builtin_trap();
  if (heap > end && __builtin_wasm_memory_grow(0, (heap - end + PAGE - 1) / PAGE) == (size_t)-1) __builtin_trap();
  return (void *)at;
}

EXPORT("cabi_realloc") void *cabi_realloc(const char *old, uint32_t old_size, uint32_t align, uint32_t size) {
  (void)align;
  char *at = capstan_allocate(size);
  for (uint32_t i = 0; i < old_size && i < size; i++) at[i] = old[i];
  return at;
}

void *memcpy(void *restrict to, const void *restrict from, size_t size) {
  volatile char *out = to;
  for (size_t i = 0; i < size; i++) out[i] = ((const char *)from)[i];
  return to;
}

void *memset(void *to, int value, size_t size) {
  volatile char *out = to;
  for (size_t i = 0; i < size; i++) out[i] = (char)value;
  return to;
}

capstan_text capstan_join(const capstan_text *texts, uint32_t count) {
  uint32_t length = 0;
  for (uint32_t i = 0; i < count; i++) length += texts[i].length;
  char *at = capstan_allocate(length), *next = at;
  for (uint32_t i = 0; i < count; i++) {
    memcpy(next, texts[i].at, texts[i].length);
    next += texts[i].length;
  }
  return (capstan_text){at, length};
}

capstan_text capstan_decimal(uint32_t number) {
  char *end = (char *)capstan_allocate(10) + 10, *at = end;
  do {
    *--at = (char)('0' + number % 10);
    number /= 10;
  } while (number);
  return (capstan_text){at, (uint32_t)(end - at)};
}

/* option<string> and option<u32> */
typedef struct {
  uint8_t some;
  capstan_text value;
} some_text;
typedef struct {
  uint8_t some;
  uint32_t value;
} some_number;

DOCUMENTS("[method]document.exists") int32_t exists(uint32_t document, const char *at, uint32_t length);
DOCUMENTS("[method]document.text") void text(uint32_t document, const char *at, uint32_t length, some_text *found);
DOCUMENTS("[method]document.length") void count(uint32_t document, const char *at, uint32_t length, some_number *found);
DOCUMENTS("[method]document.json") void json(uint32_t document, const char *at, uint32_t length, some_text *found);
DOCUMENTS("[resource-drop]document") void drop(uint32_t document);

/* Handles begin at 0 as well: what the author holds is one more. */
bool capstan_exists(capstan_document document, capstan_text path) {
  return document && exists(document - 1, path.at, path.length);
}

bool capstan_get_text(capstan_document document, capstan_text path, capstan_text *found) {
  some_text answer = {0};
  if (document) text(document - 1, path.at, path.length, &answer);
  *found = answer.value;
  return answer.some;
}

uint32_t capstan_length(capstan_document document, capstan_text path) {
  some_number answer = {0};
  if (document) count(document - 1, path.at, path.length, &answer);
  return answer.some ? answer.value : 0;
}

bool capstan_get_json(capstan_document document, capstan_text path, capstan_text *found) {
  some_text answer = {0};
  if (document) json(document - 1, path.at, path.length, &answer);
  *found = answer.value;
  return answer.some;
}

EXPORT("capstan:plugin/guest@0.1.0#describe") const capstan_description *describe(void) {
  return &capstan_plugin;
}

/* result<_, fault>: always well. A policy that takes a configuration reads it here. */
EXPORT("capstan:plugin/guest@0.1.0#configure") const void *configure(const char *config, uint32_t length) {
  static const uint32_t well[4];
  (void)config, (void)length;
  return well;
}

typedef struct {
  capstan_request request;
  struct {
    uint8_t some;
    uint32_t handle;
  } object, old;
} call;

/* result<verdict, fault> */
typedef struct {
  uint8_t failed;
  struct {
    uint8_t denied;
    union {
      capstan_texts warnings;
      struct {
        uint16_t code;
        capstan_text message;
        some_text field;
      } denial;
    };
  } verdict;
} answer;

EXPORT("capstan:admission/validate@0.1.0#validate") const answer *validate(const call *asked) {
  static answer told;
  capstan_document object = asked->object.some ? asked->object.handle + 1 : 0;
  capstan_document old = asked->old.some ? asked->old.handle + 1 : 0;
  capstan_verdict verdict = capstan_validate(&asked->request, object, old);
  if (object) drop(object - 1);
  if (old) drop(old - 1);
  if (verdict.denied) {
    told.verdict.denied = 1;
    told.verdict.denial.code = verdict.code ? verdict.code : 403;
    told.verdict.denial.message = verdict.message;
    told.verdict.denial.field.some = verdict.field.length != 0;
    told.verdict.denial.field.value = verdict.field;
  }
  return &told;
}
