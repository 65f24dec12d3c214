//! entrenous-presence
