//! Decisions to signed commands.
