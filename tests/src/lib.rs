//! entrenous-system-tests
