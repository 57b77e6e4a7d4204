//! The checksum in a file's etag.

use std::fmt::LowerHex;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use sha1::Sha1;
use sha2::digest::Output;
use sha2::{Digest, Sha256};

/// The checksum that a file must have.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Checksum<'a> {
    /// Of a file in large storage.
    Sha256(&'a str),
    /// Of a file in the Git repository: the SHA-1 of `blob SIZE\0` and its content.
    GitBlob(&'a str),
}

impl<'a> Checksum<'a> {
    /// The checksum in `etag`. Servers other than the Hub may use other etags, which contain none.
    pub(crate) fn from_etag(etag: &'a str) -> Option<Self> {
        let is_hexadecimal = etag
            .chars()
            .all(|digit| matches!(digit, '0'..='9' | 'a'..='f'));
        match etag.len() {
            64 if is_hexadecimal => Some(Self::Sha256(etag)),
            40 if is_hexadecimal => Some(Self::GitBlob(etag)),
            _ => None,
        }
    }

    /// The problem with a file, if any.
    pub(crate) fn problem(&self, path: &Path) -> io::Result<Option<String>> {
        let (name, expected, found) = match self {
            Self::Sha256(expected) => ("SHA-256", expected, digest_file(path, Sha256::new())?),
            Self::GitBlob(expected) => {
                let size = std::fs::metadata(path)?.len();
                let header = Sha1::new().chain_update(format!("blob {size}\0"));
                ("Git object id", expected, digest_file(path, header)?)
            }
        };
        Ok((found != **expected).then(|| format!("its {name} is {found}, expected {expected}")))
    }
}

/// The digest of the bytes already in `state` followed by a whole file, in hexadecimal.
fn digest_file<D: Digest>(path: &Path, mut state: D) -> io::Result<String>
where
    Output<D>: LowerHex,
{
    let mut file = File::open(path)?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(format!("{:x}", state.finalize())),
            count => state.update(&buffer[..count]),
        }
    }
}

/// The SHA-256 of a file in hexadecimal.
pub(crate) fn sha256_of_file(path: &Path) -> io::Result<String> {
    digest_file(path, Sha256::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    // `printf 'hello\n' | sha256sum` and `printf 'hello\n' | git hash-object --stdin`.
    const SHA256: &str = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
    const GIT: &str = "ce013625030ba8dba906f756967f9e9ca394464a";

    #[test]
    fn both_kinds_of_etags_are_verified() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, "hello\n").unwrap();
        for etag in [SHA256, GIT] {
            let sum = Checksum::from_etag(etag).unwrap();
            assert_eq!(sum.problem(&path).unwrap(), None);
        }
        std::fs::write(&path, "hallo\n").unwrap();
        for etag in [SHA256, GIT] {
            let problem = Checksum::from_etag(etag).unwrap().problem(&path).unwrap();
            assert!(problem.unwrap().contains(etag));
        }
    }

    #[test]
    fn an_etag_of_another_form_says_nothing() {
        assert_eq!(Checksum::from_etag("etag-config.json"), None);
        assert_eq!(Checksum::from_etag(&SHA256.to_uppercase()), None);
    }
}
