//! What the types that are validated text have in common.

use std::fmt::{self, Display, Formatter};
use std::marker::PhantomData;
use std::str::FromStr;

use serde::Deserializer;
use serde::de::Visitor;

/// The longest excerpt of a refused input that an error message repeats, in characters.
const EXCERPT: usize = 96;

/// Returns the beginning of a refused input, short enough for a message and a log line.
pub(super) fn excerpt(input: &str) -> String {
    match input.char_indices().nth(EXCERPT) {
        Some((end, _)) => format!("{}…", &input[..end]),
        None => input.to_owned(),
    }
}

/// Reads a string that is parsed where it lies: a `Cow` would be a copy each time.
pub(super) fn deserialize_parsed<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: FromStr<Err: Display>,
    D: Deserializer<'de>,
{
    struct Parse<T>(PhantomData<T>);

    impl<T: FromStr<Err: Display>> Visitor<'_> for Parse<T> {
        type Value = T;

        fn expecting(&self, f: &mut Formatter<'_>) -> fmt::Result {
            f.write_str("a string")
        }

        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
            text.parse().map_err(E::custom)
        }
    }

    deserializer.deserialize_str(Parse(PhantomData))
}

/// Implements the text side of a type that has `FromStr` and `as_str`: `Display`, a `Debug` that reads the same,
/// `AsRef<str>`, and serde as a string that is parsed on the way in.
macro_rules! validated_text {
    ($name:ident) => {
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                self.as_str()
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                $crate::oci::text::deserialize_parsed(deserializer)
            }
        }
    };
}

pub(super) use validated_text;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excerpt_is_short_and_ends_between_characters() {
        assert_eq!(excerpt("short"), "short");
        let long = "é".repeat(10_000);
        assert_eq!(excerpt(&long).chars().count(), EXCERPT + 1);
    }
}
