//! From a frame to its handler.
