//! entrenous-client
