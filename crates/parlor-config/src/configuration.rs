//! The trait of configuration structs, implemented for every type that meets its bounds.

/// A configuration struct.
pub trait Configuration:
    serde::Serialize
    + serde::de::DeserializeOwned
    + schemars::JsonSchema
    + Default
    + Clone
    + Send
    + Sync
    + 'static
{
}

impl<C> Configuration for C where
    C: serde::Serialize
        + serde::de::DeserializeOwned
        + schemars::JsonSchema
        + Default
        + Clone
        + Send
        + Sync
        + 'static
{
}
