//! entrenous-identity
