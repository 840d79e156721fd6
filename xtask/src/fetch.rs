//! `cargo xtask fetch`: every file that tests need from outside the repository.

use std::time::Instant;

use camelid_fetch as fetch;

/// Fetches what is not in the cache and checks what is, saying which file it is at: the largest has 98 MB.
pub fn run() -> Result<(), String> {
    let cache = fetch::cache_dir().map_err(|error| error.to_string())?;
    println!("cache: {}", cache.display());
    for name in fetch::names() {
        let start = Instant::now();
        let path = fetch::file(name).map_err(|error| format!("{name}: {error}"))?;
        let place = path.strip_prefix(&cache).unwrap_or(&path);
        println!("  {} ({:.1} s)", place.display(), start.elapsed().as_secs_f64());
    }
    Ok(())
}
