//! Names of the values of an option: the one convention of the library's `FromStr` and `Display`.

use crate::{Error, Result};

/// Value of `all` that `name_of` calls `name`.
///
/// `option`: name of the option, for the error; `kind`: noun for its values.
///
/// # Errors
/// [`Error::Option`] with the names that there are.
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

/// Error for the unknown `name`, which lists the `known` ones.
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

/// Implements `Display` by the type's method `name`.
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

/// Implements `Deserialize`, with the feature `serde`, by the type's `FromStr`.
macro_rules! deserialize_name {
    ($($type:ty),*) => {$(
        #[cfg(feature = "serde")]
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

deserialize_name!(
    crate::ComputeType,
    crate::Device,
    crate::Language,
    crate::Task,
    crate::output::Format
);
