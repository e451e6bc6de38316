//! What a produced batch must be before it may be submitted.

pub mod recompress;
pub mod validate;
