//! entrenous-model
