//! entrenous-config
