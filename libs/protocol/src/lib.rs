//! entrenous-protocol
