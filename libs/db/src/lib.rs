//! entrenous-db
