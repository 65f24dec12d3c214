//! entrenous-bus
