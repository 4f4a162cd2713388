//! Runs Ottla plugins: engine, limits, admission, store, verdicts.
