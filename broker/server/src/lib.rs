//! The ottla broker and command line.
