//! entrenous-message-store
