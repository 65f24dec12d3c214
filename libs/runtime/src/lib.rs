//! entrenous-runtime
