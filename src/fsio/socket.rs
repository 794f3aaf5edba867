//! Local sockets, which lie in the file system.

use super::error::Context;
use super::{Disk, FileError, RealDisk};
use std::fs::{DirBuilder, File, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// The longest path that the address of a socket holds, in bytes, without the NUL at its end.
const MAX_PATH: usize = 107;

/// The name of a socket within its private directory.
const UNFINISHED: &str = "s";

/// Listens on the socket `name` in `dir`, which nobody but this process' user can connect to. One that was left there is
/// replaced: the caller knows that nobody listens on it.
///
/// A socket has all rights until they are taken from it, so it is made in a directory that nobody else can enter, and
/// moved to its place when it has its mode.
pub fn bind_socket(dir: &Path, name: &str) -> Result<UnixListener, FileError> {
    bind_with_mode(dir, name, 0o600)
}

/// A listening socket for others, anywhere. It is removed with this, unless another one is in its place.
#[derive(Debug)]
pub struct PublicSocket {
    path: PathBuf,
    /// Which one it is: its device and its number there.
    identity: Option<(u64, u64)>,
}

impl PublicSocket {
    /// Listens on the socket at `path`, to which those may connect whom `mode` lets write. One on which nobody listens any
    /// more is replaced; nothing else that is there is touched.
    pub fn bind(path: &Path, mode: u32) -> Result<(UnixListener, PublicSocket), FileError> {
        let refused = |kind, reason: &str| FileError::new("listen on", path, io::Error::new(kind, reason));
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| refused(io::ErrorKind::InvalidInput, "that is no name of a socket"))?;
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        match std::fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(FileError::new("listen on", path, error)),
            Ok(there) if !there.file_type().is_socket() => {
                return Err(refused(
                    io::ErrorKind::AlreadyExists,
                    "something else is there, which isn't a socket",
                ));
            }
            Ok(_) => match connect_socket(dir, name) {
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                Err(error) => return Err(FileError::new("listen on", path, error)),
                Ok(_) => return Err(refused(io::ErrorKind::AddrInUse, "another program listens on it")),
            },
        }
        let listener = bind_with_mode(dir, name, mode)?;
        Ok((listener, PublicSocket { path: path.to_owned(), identity: identity(path) }))
    }
}

impl Drop for PublicSocket {
    fn drop(&mut self) {
        if self.identity.is_some() && self.identity == identity(&self.path) {
            // One that is left behind is replaced by the next start.
            let _ = RealDisk.remove(&self.path);
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    std::fs::symlink_metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

fn bind_with_mode(dir: &Path, name: &str, mode: u32) -> Result<UnixListener, FileError> {
    let path = dir.join(name);
    let private = dir.join(format!("{name}.new"));
    let unfinished = private.join(UNFINISHED);
    // A crash may have left them.
    RealDisk.remove(&unfinished)?;
    remove_dir(&private)?;
    DirBuilder::new().mode(0o700).create(&private).context("create directory", &private)?;
    let bound = (|| {
        let address = Address::of(&private, UNFINISHED).context("open", &private)?;
        let listener = UnixListener::bind(&address.path).context("listen on", &path)?;
        let mode = Permissions::from_mode(mode);
        std::fs::set_permissions(&unfinished, mode).context("set the mode of", &unfinished)?;
        RealDisk.rename(&unfinished, &path)?;
        Ok(listener)
    })();
    if bound.is_err() {
        // The error that is told is the first one.
        let _ = RealDisk.remove(&unfinished);
    }
    let removed = remove_dir(&private);
    let listener = bound?;
    removed?;
    Ok(listener)
}

/// Connects to the socket `name` in `dir`.
pub fn connect_socket(dir: &Path, name: &str) -> io::Result<UnixStream> {
    UnixStream::connect(Address::of(dir, name)?.path)
}

/// Removes the socket `name` in `dir`; `false` if there is none.
pub fn remove_socket(dir: &Path, name: &str) -> Result<bool, FileError> {
    RealDisk.remove(&dir.join(name))
}

fn remove_dir(dir: &Path) -> Result<(), FileError> {
    match std::fs::remove_dir(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(FileError::new("remove directory", dir, error))
        }
        _ => Ok(()),
    }
}

/// A path of a socket that is short enough.
struct Address {
    path: PathBuf,
    /// The directory that a short path goes through.
    _dir: Option<File>,
}

impl Address {
    /// The path itself, or, where that is too long, one through the open directory, as Linux shows it in `/proc`.
    fn of(dir: &Path, name: &str) -> io::Result<Address> {
        let path = dir.join(name);
        if path.as_os_str().as_bytes().len() <= MAX_PATH {
            return Ok(Address { path, _dir: None });
        }
        let dir = File::open(dir)?;
        let path = PathBuf::from(format!("/proc/self/fd/{}/{name}", dir.as_raw_fd()));
        Ok(Address { path, _dir: Some(dir) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    fn exchange(listener: &UnixListener, dir: &Path) {
        let mut client = connect_socket(dir, "x.sock").unwrap();
        let (mut server, _) = listener.accept().unwrap();
        client.write_all(b"hello").unwrap();
        let mut heard = [0; 5];
        server.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"hello");
    }

    fn names(dir: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(dir).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_socket_is_its_users_alone_however_long_its_path_is() {
        let root = tempfile::tempdir().unwrap();
        for dir in [root.path().join("short"), root.path().join("long".repeat(25)).join("er".repeat(30))] {
            RealDisk.create_dir(&dir).unwrap();
            let listener = bind_socket(&dir, "x.sock").unwrap();
            let metadata = std::fs::symlink_metadata(dir.join("x.sock")).unwrap();
            assert!(metadata.file_type().is_socket());
            assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
            assert_eq!(names(&dir), ["x.sock"]);
            exchange(&listener, &dir);
            assert!(remove_socket(&dir, "x.sock").unwrap());
            assert!(!remove_socket(&dir, "x.sock").unwrap());
            assert!(connect_socket(&dir, "x.sock").is_err());
        }
    }

    #[test]
    fn what_a_crash_has_left_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        drop(bind_socket(dir.path(), "x.sock").unwrap());
        assert_eq!(
            connect_socket(dir.path(), "x.sock").unwrap_err().kind(),
            io::ErrorKind::ConnectionRefused,
            "the socket outlives its listener"
        );
        std::fs::create_dir(dir.path().join("x.sock.new")).unwrap();
        drop(UnixListener::bind(dir.path().join("x.sock.new/s")).unwrap());
        exchange(&bind_socket(dir.path(), "x.sock").unwrap(), dir.path());
        // Nor does a file in its place stop it.
        std::fs::remove_file(dir.path().join("x.sock")).unwrap();
        std::fs::write(dir.path().join("x.sock"), "not a socket").unwrap();
        exchange(&bind_socket(dir.path(), "x.sock").unwrap(), dir.path());
        assert_eq!(names(dir.path()), ["x.sock"]);
    }

    #[test]
    fn a_public_socket_replaces_one_that_nobody_listens_on_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.sock");
        let (listener, socket) = PublicSocket::bind(&path, 0o660).unwrap();
        assert_eq!(std::fs::symlink_metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        let taken = PublicSocket::bind(&path, 0o660).unwrap_err();
        assert!(taken.to_string().contains("another program listens"), "{taken}");
        // As a crash leaves it.
        std::mem::forget(socket);
        drop(listener);
        let (listener, socket) = PublicSocket::bind(&path, 0o600).unwrap();
        exchange(&listener, dir.path());
        // Another one in its place is another's.
        std::fs::remove_file(&path).unwrap();
        let other = UnixListener::bind(&path).unwrap();
        drop(socket);
        assert!(path.exists());
        drop(other);
        drop(PublicSocket::bind(&path, 0o600).unwrap());
        assert!(!path.exists());
        std::fs::write(&path, "somebody's").unwrap();
        let refused = PublicSocket::bind(&path, 0o600).unwrap_err();
        assert!(refused.to_string().contains("isn't a socket"), "{refused}");
        assert_eq!(std::fs::read(&path).unwrap(), b"somebody's");
    }
}
