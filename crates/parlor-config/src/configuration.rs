//! The trait of a user's configuration struct: implemented for every type that has what the crate needs.

/// What a configuration must be able to do.
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
