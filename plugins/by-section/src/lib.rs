//! Routes Debian package stanzas by their Section line.
