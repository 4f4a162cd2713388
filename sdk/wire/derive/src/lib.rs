//! The derive behind message definitions.
