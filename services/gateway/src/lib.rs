//! entrenous-gateway
