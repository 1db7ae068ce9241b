//! Names of option values: shared implementation of the library's `FromStr` and `Display`.

use crate::{Error, Result};

/// Returns the value of `all` whose name is `name`.
///
/// `option`: name of the option, for the error; `kind`: noun for its values.
///
/// # Errors
/// [`Error::Option`] with the known names.
pub(crate) fn by_name<T: Copy>(
    option: &'static str,
    kind: &str,
    name: &str,
    all: impl IntoIterator<Item = T> + Clone,
    name_of: impl Fn(T) -> &'static str,
) -> Result<T> {
    let mut values = all.clone().into_iter();
    values
        .find(|&value| name_of(value) == name)
        .ok_or_else(|| unknown(option, kind, name, all.into_iter().map(name_of)))
}

/// Returns the error for the unknown `name`, which lists the `known` names.
pub(crate) fn unknown<'a>(
    option: &'static str,
    kind: &str,
    name: &str,
    known: impl Iterator<Item = &'a str>,
) -> Error {
    let known: Vec<&str> = known.collect();
    Error::Option {
        name: option,
        reason: format!("unknown {kind} `{name}`; known: {}", known.join(", ")),
    }
}

/// Implements `Display` by the method `name` of the type.
macro_rules! display_name {
    ($type:ty) => {
        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.name())
            }
        }
    };
}
pub(crate) use display_name;

/// Implements `Deserialize` by the type's `FromStr`.
macro_rules! deserialize_name {
    ($($type:ty),*) => {$(
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(
                deserializer: D,
            ) -> std::result::Result<Self, D::Error> {
                let name = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                name.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

deserialize_name!(crate::Language);
#[cfg(feature = "serde")]
deserialize_name!(
    crate::ComputeType,
    crate::Device,
    crate::Task,
    crate::vad::VadMethod,
    crate::output::Format
);
