//! The harness that whole-system tests share.
