//! entrenous-auth
