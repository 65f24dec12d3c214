//! entrenous-checker
