//! entrenous-local-servers
