/* Admission policies in C: fill in `capstan_plugin` and `capstan_validate`. */
#ifndef CAPSTAN_H
#define CAPSTAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A text: not ended by a zero. */
typedef struct {
  const char *at;
  uint32_t length;
} capstan_text;

/* A text of a literal. */
#define CAPSTAN_TEXT(literal) ((capstan_text){literal, sizeof(literal) - 1})

typedef struct {
  capstan_text key, value;
} capstan_pair;

typedef struct {
  const capstan_text *at;
  uint32_t length;
} capstan_texts;

typedef enum { CAPSTAN_CREATE, CAPSTAN_UPDATE, CAPSTAN_DELETE, CAPSTAN_CONNECT } capstan_operation;

/* The request without its objects; its layout is the contract's. */
typedef struct {
  capstan_text uid;
  uint8_t operation; /* a capstan_operation */
  capstan_text group, version, resource, subresource, kind, namespace_;
  struct {
    const capstan_pair *at;
    uint32_t length;
  } namespace_labels;
  capstan_text name, user;
  capstan_texts groups;
  bool dry_run;
  uint64_t now_ms; /* since the Unix epoch */
} capstan_request;

/* An object on the host's side; 0 where there is none. Paths are JSON Pointers, such as /spec/containers/0/image. */
typedef uint32_t capstan_document;

bool capstan_exists(capstan_document document, capstan_text path);
/* Whether there is a text at the path, and then the text. */
bool capstan_get_text(capstan_document document, capstan_text path, capstan_text *found);
/* How many items an array, or members an object, has; 0 where there is none. */
uint32_t capstan_length(capstan_document document, capstan_text path);
/* Whether anything is at the path, and then as JSON. */
bool capstan_get_json(capstan_document document, capstan_text path, capstan_text *found);

typedef struct {
  bool denied;
  uint16_t code;        /* HTTP status of a denial; 0 stands for 403 */
  capstan_text message; /* what is wrong, with the value, and what would be right */
  capstan_text field;   /* in Kubernetes' notation; may be empty */
} capstan_verdict;

/* Memory that is never given back. */
void *capstan_allocate(uint32_t size);
/* These texts, one after the other. */
capstan_text capstan_join(const capstan_text *texts, uint32_t count);
/* The number in decimal digits. */
capstan_text capstan_decimal(uint32_t number);

/* What the plugin says of itself. */
typedef struct {
  capstan_text name, version, summary, config_schema;
} capstan_description;
extern const capstan_description capstan_plugin;

/* The verdict. The object is absent on delete, the old one on create. */
capstan_verdict capstan_validate(const capstan_request *request, capstan_document object, capstan_document old);

#endif
