//! entrenous-test-support
