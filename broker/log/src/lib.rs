//! Segments, indexes, group commit, recovery: files only, no sockets.
