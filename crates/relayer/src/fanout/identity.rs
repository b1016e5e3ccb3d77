//! The gateway's own key. It is configured, or created once next to the database.
//!
//! If a key file exists but cannot be used, the start fails. The file is never replaced, because
//! followers pin the public key, and the registry's secrets are sealed with the key.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use wire::Signer;
use zeroize::Zeroizing;

use crate::config::{Config, SecretFile, SecretKey};
use crate::nip19::{npub, nsec};

/// The default key file, next to the database folder.
pub(crate) const KEY_FILE: &str = "relayer.key";

#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file exists but contains no usable key.
    #[error(
        "the gateway's key in {path} cannot be used: {why}; restore the file, or move it away to start with a new key, \
         which followers and the registry's secrets do not accept"
    )]
    Unusable {
        path: PathBuf,
        /// The reason, without any part of the key.
        why: String,
    },
    #[error(
        "no key is set under [nostr], and none can be created at {path}: {source}; make the folder writable, or set one"
    )]
    CannotCreate { path: PathBuf, source: io::Error },
}

/// Returns the configured key. Without one, returns the key in [`KEY_FILE`] and creates the file if
/// it does not exist.
///
/// # Errors
/// When the file contains no key, other users may read it, or it cannot be created.
pub(crate) fn load_or_create(config: &Config) -> Result<Arc<Signer>, IdentityError> {
    if let Some(key) = config.nostr.key() {
        return Ok(Arc::clone(key.signer()));
    }
    let path = key_file(&config.deduplication.rocksdb_path);
    match path.symlink_metadata() {
        Ok(_) => read(&path),
        Err(missing) if missing.kind() == ErrorKind::NotFound => {
            create(&path).map_err(|source| IdentityError::CannotCreate { path: path.clone(), source })?;
            let signer = read(&path)?;
            let (npub, file) = (npub(signer.pubkey()), path.display());
            tracing::info!(
                name: "key_created",
                npub, %file, "created a key for this gateway; keep a copy of the file"
            );
            Ok(signer)
        }
        Err(error) => Err(IdentityError::Unusable { path, why: error.to_string() }),
    }
}

/// Returns the path of the key file that belongs to the database in this folder.
pub fn key_file(database: &Path) -> PathBuf {
    // An empty parent means the working directory.
    let folder = database.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or(Path::new(".")).join(KEY_FILE)
}

fn read(path: &Path) -> Result<Arc<Signer>, IdentityError> {
    let read = SecretFile::<SecretKey>::read(path);
    let file = read.map_err(|why| IdentityError::Unusable { path: path.to_owned(), why })?;
    Ok(Arc::clone(file.secret.signer()))
}

/// Creates a key file atomically. Never replaces an existing file.
fn create(path: &Path) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let unfinished = path.with_extension(format!("key.{}", std::process::id()));
    let made = write_new(&unfinished).and_then(|()| match fs::hard_link(&unfinished, path) {
        // Another process created a key first; use that key.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        linked => linked,
    });
    let removed = fs::remove_file(&unfinished);
    made.and(removed)?;
    File::open(folder)?.sync_all()
}

fn write_new(path: &Path) -> io::Result<()> {
    // An earlier start may have been killed before it removed its temporary file.
    if let Err(error) = fs::remove_file(path)
        && error.kind() != ErrorKind::NotFound
    {
        return Err(error);
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    writeln!(file, "{}", *nsec(&random_key()))?;
    file.sync_all()
}

fn random_key() -> Zeroizing<[u8; 32]> {
    loop {
        let key = Zeroizing::new(rand::random::<[u8; 32]>());
        // About 1 in 2^128 numbers is not a valid key.
        if Signer::from_secret(&key).is_some() {
            return key;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use tempfile::TempDir;

    use super::*;

    fn config(folder: &TempDir) -> Config {
        let mut config = Config::default();
        config.deduplication.rocksdb_path = folder.path().join("data/rocksdb");
        config
    }

    #[test]
    fn a_key_is_made_once() {
        let folder = TempDir::new().unwrap();
        let config = config(&folder);
        let first = load_or_create(&config).unwrap();
        let file = folder.path().join("data/relayer.key");
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(load_or_create(&config).unwrap().pubkey(), first.pubkey());
        let left: Vec<_> = fs::read_dir(file.parent().unwrap()).unwrap().collect();
        assert_eq!(left.len(), 1, "{left:?}");
        let other = TempDir::new().unwrap();
        assert_ne!(load_or_create(&self::config(&other)).unwrap().pubkey(), first.pubkey());
    }

    #[test]
    fn concurrent_starts_use_one_key() {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join(KEY_FILE);
        create(&file).unwrap();
        let first = read(&file).unwrap();
        create(&file).unwrap();
        assert_eq!(read(&file).unwrap().pubkey(), first.pubkey());
    }

    #[test]
    fn an_existing_file_is_never_replaced() {
        let folder = TempDir::new().unwrap();
        let config = config(&folder);
        let file = folder.path().join("data/relayer.key");
        fs::create_dir(folder.path().join("data")).unwrap();
        for (content, mode, why) in [
            ("", 0o600, "it is empty"),
            ("nsec1oops", 0o600, "it holds no secret key"),
            (&"01".repeat(32), 0o644, "chmod 600"),
        ] {
            drop(fs::remove_file(&file));
            fs::write(&file, content).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            let error = load_or_create(&config).unwrap_err().to_string();
            assert!(error.contains(why) && error.contains("relayer.key"), "{error}");
            assert_eq!(fs::read_to_string(&file).unwrap(), content);
        }
    }

    #[test]
    fn the_file_is_beside_the_database() {
        for (database, file) in [
            ("./data/rocksdb", "./data/relayer.key"),
            ("rocksdb", "./relayer.key"),
            ("/a/b", "/a/relayer.key"),
        ] {
            assert_eq!(key_file(Path::new(database)), Path::new(file));
        }
    }
}
