//! Reading a document without some of its fields: they are passed over in the text and never made.
//!
//! A table says which, by the way to them; a list stands for each of its items. Invariant: what the table does not
//! name is read as if there were no table, errors included. Called by `slim` alone. Fields that are left out must be
//! optional in the type that is read.

use std::fmt;

use serde::de::value::UnitDeserializer;
use serde::de::{
    DeserializeSeed, Deserializer, Error, IgnoredAny, IntoDeserializer, MapAccess, SeqAccess, Visitor,
};
use serde::forward_to_deserialize_any;

/// Fields by name, and what of each is left out.
pub(crate) type Omissions = &'static [(&'static str, Omit)];

/// What of a field is left out.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Omit {
    /// The field.
    Whole,
    /// Some fields of its value, or of each item of its value.
    Within(Omissions),
}

/// A deserializer that leaves out.
pub(crate) struct Without<D> {
    pub(crate) inner: D,
    pub(crate) omissions: Omissions,
}

macro_rules! as_it_is {
    ($($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
            self.inner.$method(visitor)
        })*
    };
}

macro_rules! through {
    ($($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
            let omissions = self.omissions;
            self.inner.$method(Through { visitor, omissions })
        })*
    };
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Without<D> {
    type Error = D::Error;

    as_it_is! {
        deserialize_any deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_f32 deserialize_f64
        deserialize_char deserialize_str deserialize_string deserialize_bytes deserialize_byte_buf deserialize_unit
        deserialize_identifier deserialize_ignored_any
    }
    through! { deserialize_option deserialize_seq deserialize_map }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let omissions = self.omissions;
        self.inner
            .deserialize_struct(name, fields, Through { visitor, omissions })
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.inner.deserialize_newtype_struct(name, visitor)
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.inner.deserialize_unit_struct(name, visitor)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_tuple(length, visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.inner.deserialize_tuple_struct(name, length, visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.inner.deserialize_enum(name, variants, visitor)
    }

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

/// The same for whatever is read next.
struct Seed<S> {
    seed: S,
    omissions: Omissions,
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Seed<S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, inner: D) -> Result<S::Value, D::Error> {
        let omissions = self.omissions;
        self.seed.deserialize(Without { inner, omissions })
    }
}

struct Through<V> {
    visitor: V,
    omissions: Omissions,
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Through<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.visitor.expecting(f)
    }

    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.visitor.visit_none()
    }

    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.visitor.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        let omissions = self.omissions;
        self.visitor.visit_some(Without { inner, omissions })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<V::Value, A::Error> {
        let omissions = self.omissions;
        self.visitor.visit_seq(Items { items, omissions })
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<V::Value, A::Error> {
        self.visitor.visit_map(Members {
            members,
            omissions: self.omissions,
            found: None,
        })
    }
}

struct Items<A> {
    items: A,
    omissions: Omissions,
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Items<A> {
    type Error = A::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        let omissions = self.omissions;
        self.items.next_element_seed(Seed { seed, omissions })
    }

    fn size_hint(&self) -> Option<usize> {
        self.items.size_hint()
    }
}

struct Members<A> {
    members: A,
    omissions: Omissions,
    /// What is left out of the value that comes next.
    found: Option<Omit>,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Members<A> {
    type Error = A::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        self.found = None;
        self.members.next_key_seed(Name {
            inner: seed,
            omissions: self.omissions,
            found: &mut self.found,
        })
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        match self.found.take() {
            None => self.members.next_value_seed(seed),
            Some(Omit::Within(omissions)) => self.members.next_value_seed(Seed { seed, omissions }),
            Some(Omit::Whole) => {
                self.members.next_value::<IgnoredAny>()?;
                let nothing: UnitDeserializer<A::Error> = ().into_deserializer();
                seed.deserialize(nothing)
            }
        }
    }

    fn size_hint(&self) -> Option<usize> {
        self.members.size_hint()
    }
}

/// A member's name on its way: as a seed, as a deserializer, as a visitor.
struct Name<'a, I> {
    inner: I,
    omissions: Omissions,
    found: &'a mut Option<Omit>,
}

impl<I> Name<'_, I> {
    fn look_up(&mut self, name: &str) {
        let row = self.omissions.iter().find(|(own, _)| *own == name);
        *self.found = row.map(|(_, omit)| *omit);
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Name<'_, S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, inner: D) -> Result<S::Value, D::Error> {
        self.inner.deserialize(Name {
            inner,
            omissions: self.omissions,
            found: self.found,
        })
    }
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Name<'_, D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_any(Name {
            inner: visitor,
            omissions: self.omissions,
            found: self.found,
        })
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Name<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.expecting(f)
    }

    fn visit_str<E: Error>(mut self, name: &str) -> Result<V::Value, E> {
        self.look_up(name);
        self.inner.visit_str(name)
    }

    fn visit_borrowed_str<E: Error>(mut self, name: &'de str) -> Result<V::Value, E> {
        self.look_up(name);
        self.inner.visit_borrowed_str(name)
    }

    fn visit_string<E: Error>(mut self, name: String) -> Result<V::Value, E> {
        self.look_up(&name);
        self.inner.visit_string(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Pod;
    use serde::de::Deserialize;
    use serde_json::{Value, json};

    const SOME: Omissions = &[
        ("metadata", Omit::Within(&[("managedFields", Omit::Whole)])),
        (
            "spec",
            Omit::Within(&[("containers", Omit::Within(&[("env", Omit::Whole)]))]),
        ),
    ];

    fn read(text: &str) -> serde_json::Result<Pod> {
        let mut inner = serde_json::Deserializer::from_str(text);
        Pod::deserialize(Without {
            inner: &mut inner,
            omissions: SOME,
        })
    }

    fn pod() -> Value {
        json!({
            "metadata": {
                "name": "p", "labels": {"env": "x", "managedFields": "y"},
                "managedFields": [{"manager": "m", "fieldsV1": {"f:spec": {}}}],
                "ownerReferences": [{"apiVersion": "v1", "kind": "X", "name": "x", "uid": "u", "controller": true}],
            },
            "spec": {
                "containers": [
                    {"name": "a", "env": [{"name": "A", "value": "1"}], "ports": [{"containerPort": 80}]},
                    {"name": "b", "resources": {"requests": {"cpu": "1"}}},
                ],
                "initContainers": [{"name": "i", "env": [{"name": "B"}]}],
                "nodeName": "n",
            },
            "status": {"phase": "Running", "startTime": "2026-01-01T00:00:00Z"},
        })
    }

    #[test]
    fn what_the_table_names_is_left_out_and_nothing_else() {
        let mut expected: Pod = serde_json::from_value(pod()).unwrap();
        expected.metadata.managed_fields = None;
        expected.spec.as_mut().unwrap().containers[0].env = None;
        assert_eq!(read(&pod().to_string()).unwrap(), expected);
        // Names that are escaped in the text are the same names.
        let escaped = pod().to_string().replace("managedFields", "managed\\u0046ields");
        assert_eq!(read(&escaped).unwrap().metadata.managed_fields, None);
    }

    #[test]
    fn errors_are_those_of_the_type() {
        let mut wrong = pod();
        wrong["spec"]["containers"][0]["ports"] = json!("80");
        let text = wrong.to_string();
        let (here, there) = (
            read(&text).unwrap_err(),
            serde_json::from_str::<Pod>(&text).unwrap_err(),
        );
        assert_eq!(here.to_string(), there.to_string());
        assert!(read(r#"{"metadata":{"managedFields":[{]}}"#).is_err());
    }
}
