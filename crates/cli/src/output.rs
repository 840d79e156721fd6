//! Writing results: `out!` and `outln!` are `print!` and `println!` whose failure is an error instead of a panic.

/// Writes to stdout; returns from the function if that fails.
macro_rules! out {
    ($($arguments:tt)*) => {{
        use std::io::Write as _;
        write!(std::io::stdout(), $($arguments)*)?
    }};
}

/// Writes a line to stdout; returns from the function if that fails.
macro_rules! outln {
    ($($arguments:tt)*) => {{
        use std::io::Write as _;
        writeln!(std::io::stdout(), $($arguments)*)?
    }};
}

/// Whether the error is that nobody reads stdout any more.
pub fn is_broken_pipe(error: &(dyn std::error::Error + 'static)) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
}
