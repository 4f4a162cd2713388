//! The record batch, version 2.
