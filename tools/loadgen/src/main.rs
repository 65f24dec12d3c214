//! entrenous-loadgen

fn main() {}
