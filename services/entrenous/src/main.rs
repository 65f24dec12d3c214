//! entrenous

fn main() {}
