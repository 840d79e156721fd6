//! SHA-256 of files, as the 64 hex digits in which every digest of this project is written.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use sha2::{Digest, Sha256};

/// Reads `path` once, in pieces.
///
/// # Errors
/// If it cannot be read.
pub fn of_file(path: &Path) -> io::Result<String> {
    let (_, digest) = copy(&mut File::open(path)?, &mut io::sink())?;
    Ok(digest)
}

/// Of bytes in memory.
pub fn of_bytes(bytes: &[u8]) -> String {
    hex(Sha256::digest(bytes).as_slice())
}

/// Copies `from` to `to`; the number of bytes and their digest.
///
/// # Errors
/// If one cannot be read or the other not be written.
pub fn copy(from: &mut dyn Read, to: &mut dyn Write) -> io::Result<(u64, String)> {
    let (mut hasher, mut copied, mut buffer) = (Sha256::new(), 0, vec![0; 1 << 18]);
    loop {
        match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                hasher.update(&buffer[..count]);
                to.write_all(&buffer[..count])?;
                copied += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok((copied, hex(hasher.finalize().as_slice())))
}

fn hex(digest: &[u8]) -> String {
    let mut hex = String::with_capacity(64);
    for byte in digest {
        write!(hex, "{byte:02x}").expect("writing to a String never fails");
    }
    hex
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_of_fips_180_4() {
        let mut out = Vec::new();
        let (copied, digest) = copy(&mut &b"abc"[..], &mut out).unwrap();
        assert_eq!((copied, out.as_slice()), (3, &b"abc"[..]));
        assert_eq!(digest, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
