//! JSON objects whose keys have one meaning, and whose nesting is bounded.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::de::{Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::error::SignedManifestError;
use crate::oci::text::excerpt;

/// The deepest nesting of objects and arrays that a signed manifest may have; real ones have 5.
const MAX_DEPTH: usize = 64;

/// The most keys of an object that is read; real ones have 8.
const MAX_KEYS: usize = 128;

/// The fields of an object, each still unread.
///
/// A key that comes twice is refused, also in another case: readers written in Go don't tell `name` from `NAME` and take
/// the last, so that two readers of one document could see two things.
#[derive(Debug)]
pub(super) struct Object<'a> {
    /// What the object is, for messages.
    what: &'static str,
    fields: BTreeMap<String, &'a RawValue>,
}

impl<'a> Object<'a> {
    /// Reads the object that `json` consists of.
    pub(super) fn read(what: &'static str, json: &'a [u8]) -> Result<Object<'a>, SignedManifestError> {
        match serde_json::from_slice::<Fields<'a>>(json) {
            Ok(Fields(fields)) => Ok(Object { what, fields }),
            Err(error) => Err(invalid(what, &error.to_string())),
        }
    }

    /// Returns the text of a field, which is part of the bytes that were read.
    pub(super) fn raw(&self, field: &'static str) -> Option<&'a str> {
        self.fields.get(field).map(|raw| raw.get())
    }

    /// Whether there is a field that some reader would take for `field`, which is in lower case.
    pub(super) fn has_in_any_case(&self, field: &'static str) -> bool {
        self.fields.keys().any(|key| folded(key) == field)
    }

    /// Reads a field that may be absent; `null` counts as absent.
    pub(super) fn optional<T: Deserialize<'a>>(
        &self,
        field: &'static str,
    ) -> Result<Option<T>, SignedManifestError> {
        match self.raw(field) {
            None => Ok(None),
            Some(raw) => serde_json::from_str(raw)
                .map_err(|error| invalid(self.what, &format!("its `{field}`: {error}"))),
        }
    }

    /// Reads a field that has to be there.
    pub(super) fn required<T: Deserialize<'a>>(&self, field: &'static str) -> Result<T, SignedManifestError> {
        self.optional(field)?.ok_or_else(|| invalid(self.what, &format!("it has no `{field}`")))
    }

    /// Reads a field that has to be there and to be a list, and refuses a list of more than `limit` items before it has
    /// grown to them.
    pub(super) fn list(
        &self,
        field: &'static str,
        limit: usize,
    ) -> Result<Vec<&'a RawValue>, SignedManifestError> {
        let Some(raw) = self.raw(field) else {
            return Err(invalid(self.what, &format!("it has no `{field}`")));
        };
        let mut reader = serde_json::Deserializer::from_str(raw);
        reader
            .deserialize_seq(ListVisitor { limit })
            .map_err(|error| invalid(self.what, &format!("its `{field}`: {error}")))
    }
}

fn invalid(what: &str, reason: &str) -> SignedManifestError {
    SignedManifestError::Invalid(format!("{what}: {}", excerpt(reason)))
}

struct Fields<'a>(BTreeMap<String, &'a RawValue>);

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor).map(Fields)
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = BTreeMap<String, &'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = BTreeMap::new();
        let mut seen = BTreeSet::new();
        while let Some(key) = map.next_key::<String>()? {
            if fields.len() >= MAX_KEYS {
                return Err(A::Error::custom(format_args!("more than {MAX_KEYS} keys")));
            }
            if !seen.insert(folded(&key)) {
                return Err(A::Error::custom(format_args!("the key `{}` comes twice", excerpt(&key))));
            }
            fields.insert(key, map.next_value()?);
        }
        Ok(fields)
    }
}

/// A key as readers see it that don't tell cases apart: both ways, because some letters outside of ASCII fold to those inside.
fn folded(key: &str) -> String {
    key.to_uppercase().to_lowercase()
}

struct ListVisitor {
    limit: usize,
}

impl<'de> Visitor<'de> for ListVisitor {
    type Value = Vec<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while items.len() < self.limit {
            match list.next_element()? {
                Some(item) => items.push(item),
                None => return Ok(items),
            }
        }
        match list.next_element::<IgnoredAny>()? {
            None => Ok(items),
            Some(_) => Err(A::Error::custom(format_args!("it has more than {} items", self.limit))),
        }
    }
}

/// Refuses a document that is nested deeper than any reader should have to follow.
///
/// Brackets are counted without reading the document, so that depth costs nothing, not even stack.
pub(super) fn check_depth(json: &[u8]) -> Result<(), SignedManifestError> {
    let mut depth = 0_usize;
    let mut in_string = false;
    let mut escaped = false;
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => depth += 1,
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_DEPTH {
            return Err(SignedManifestError::Invalid(format!(
                "it is nested more than {MAX_DEPTH} levels deep"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Object<'_>, SignedManifestError> {
        Object::read("the manifest", json.as_bytes())
    }

    #[test]
    fn a_key_that_comes_twice_is_refused_in_any_case() {
        for json in
            [r#"{"a":1,"a":2}"#, r#"{"name":1,"NAME":2}"#, r#"{"s":1,"ſ":2}"#, r#"{"k":1,"\u212a":2}"#]
        {
            let message = read(json).unwrap_err().to_string();
            assert!(message.contains("comes twice"), "{json}: {message}");
        }
        assert!(read(r#"{"a":1,"b":2}"#).is_ok());
    }

    #[test]
    fn only_objects_of_bounded_size_are_read() {
        for json in ["", "[]", "5", "null", "{}x", "{", "\u{feff}{}"] {
            assert!(read(json).is_err(), "{json}");
        }
        let many: Vec<String> = (0..=MAX_KEYS).map(|key| format!("\"{key}\":0")).collect();
        assert!(read(&format!("{{{}}}", many.join(","))).is_err());
    }

    #[test]
    fn a_list_is_read_up_to_its_limit() {
        let object = read(r#"{"a":[1,2,3],"b":{},"c":null}"#).unwrap();
        assert_eq!(object.list("a", 3).unwrap().len(), 3);
        let message = object.list("a", 2).unwrap_err().to_string();
        assert!(message.contains("more than 2 items"), "{message}");
        for field in ["b", "c", "d"] {
            assert!(object.list(field, 3).is_err());
        }
    }

    #[test]
    fn depth_counts_outside_of_strings_only() {
        assert!(check_depth("[".repeat(64).as_bytes()).is_ok());
        assert!(check_depth("[".repeat(65).as_bytes()).is_err());
        assert!(check_depth("{\"a\":".repeat(1_000_000).as_bytes()).is_err());
        assert!(check_depth(format!(r#""\"{}""#, "[".repeat(100)).as_bytes()).is_ok());
        assert!(check_depth("[]".repeat(100).as_bytes()).is_ok());
    }
}
