//! entrenous-delivery-tracker
