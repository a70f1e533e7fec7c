// SPDX-License-Identifier: BSD-2-Clause
//! The guest's first file system: busybox and a script that runs a command or a shell, and then
//! powers off.

use super::cpio::Archive;
use super::packages::GuestFile;
use super::parser;
use crate::error::{At, Error, Result, read_bytes};
use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Largest archive, bytes: it shares an image of 128 MiB with the guest's kernel.
const LIMIT: usize = 72 << 20;

/// Folder of the guest with the files of `--share`.
pub const SHARE: &str = "share";

/// File of the guest with the command.
const COMMAND: &str = "command";

/// Makes the archive. `busybox`: a static program. `command`: what to run, with `sh`; without one
/// there is a shell at the console. `share`: a folder that is copied to `/share`. `programs`: more
/// programs, and libraries for them.
pub fn make(
    busybox: &[u8],
    command: Option<&str>,
    share: Option<&Path>,
    programs: &[GuestFile],
) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    for folder in ["bin", "dev", "etc", "proc", "root", "sys", "tmp"] {
        archive.folder(folder);
    }
    // Linux opens it for the script before the script mounts /dev.
    archive.device("dev/console", 5, 1);
    archive.file("bin/busybox", 0o755, busybox);
    archive.link("bin/sh", "busybox");
    archive.file("init", 0o755, script(command.is_some()).as_bytes());
    if let Some(command) = command {
        archive.file(COMMAND, 0o644, format!("{command}\n").as_bytes());
    }
    let mut folders = BTreeSet::from(["bin".to_string()]);
    for program in programs {
        let parts: Vec<&str> = program.name.split('/').collect();
        for length in 1..parts.len() {
            let folder = parts[..length].join("/");
            if folders.insert(folder.clone()) {
                archive.folder(&folder);
            }
        }
        archive.file(&program.name, 0o755, &read_bytes(&program.file)?);
    }
    if let Some(folder) = share {
        if !folder.is_dir() {
            let why = format!("--share {}: no such folder", folder.display());
            return Err(Error::Usage(why));
        }
        let mut left_out = Vec::new();
        add_folder(
            &mut archive,
            folder,
            SHARE.as_bytes(),
            folder,
            &mut left_out,
        )?;
        for path in left_out {
            eprintln!(
                "--share: {} is left out: no file, folder or link",
                path.display()
            );
        }
    }
    Ok(archive.finish())
}

/// An archive with nothing but a first program and its console.
pub fn bare(init: &[u8]) -> Vec<u8> {
    let mut archive = Archive::default();
    archive.folder("dev");
    archive.device("dev/console", 5, 1);
    archive.file("init", 0o755, init);
    archive.finish()
}

/// `/init`.
fn script(has_command: bool) -> String {
    let run = if has_command {
        format!(
            "# Messages of the kernel stay out of the command's output, and that comes as it is.\n\
             dmesg -n 1\n\
             stty -opost\n\
             printf '%s\\n' '{begin}'\n\
             sh /{COMMAND} </dev/null\n\
             printf '\\n%s %d\\n' '{end}' $?\n\
             # Waits until all output is out.\n\
             stty opost\n",
            begin = parser::BEGIN,
            end = parser::END,
        )
    } else {
        "# A session of its own with the console as its terminal: job control and Ctrl-C work.\n\
         setsid -c sh -l </dev/hvc0 >/dev/hvc0 2>&1\n"
            .into()
    };
    format!(
        "#!/bin/busybox sh\n\
         /bin/busybox mount -t proc proc /proc\n\
         /bin/busybox mount -t sysfs sysfs /sys\n\
         /bin/busybox mount -t devtmpfs devtmpfs /dev\n\
         /bin/busybox --install -s /bin\n\
         export PATH=/bin HOME=/root TERM=vt100\n\
         cd /root\n\
         {run}\
         poweroff -f\n"
    )
}

/// Adds a folder and all below it; other things than files, folders and links are left out, and named.
fn add_folder(
    archive: &mut Archive,
    folder: &Path,
    name: &[u8],
    top: &Path,
    left_out: &mut Vec<PathBuf>,
) -> Result<()> {
    archive.folder(name);
    let mut entries = std::fs::read_dir(folder)
        .and_then(Iterator::collect::<std::io::Result<Vec<_>>>)
        .at(folder)?;
    // The order of a folder is not defined; that of the archive is.
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        let named = [name, b"/", entry.file_name().as_bytes()].concat();
        let kind = entry.file_type().at(&path)?;
        if kind.is_dir() {
            add_folder(archive, &path, &named, top, left_out)?;
        } else if kind.is_symlink() {
            let target = std::fs::read_link(&path).at(&path)?;
            archive.link(&named, target.as_os_str().as_bytes());
        } else if kind.is_file() {
            let metadata = entry.metadata().at(&path)?;
            let size = usize::try_from(metadata.len()).unwrap_or(usize::MAX);
            if archive.len().saturating_add(size) > LIMIT {
                let why = format!(
                    "--share {}: more than the {} MiB that fit in an image (at {})",
                    top.display(),
                    LIMIT >> 20,
                    path.display()
                );
                return Err(Error::Usage(why));
            }
            let contents = read_bytes(&path)?;
            archive.file(&named, metadata.permissions().mode(), &contents);
        } else {
            left_out.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{make_folder, write};

    fn holds(archive: &[u8], text: impl AsRef<[u8]>) -> bool {
        let text = text.as_ref();
        archive.windows(text.len()).any(|w| w == text)
    }

    #[test]
    fn with_a_command() {
        let archive = make(b"program", Some("echo it's me"), None, &[]).unwrap();
        assert!(holds(&archive, "echo it's me\n"));
        assert!(holds(&archive, parser::BEGIN));
        assert!(!holds(&archive, "setsid"));
    }

    #[test]
    fn without_a_command_there_is_a_shell() {
        let archive = make(b"program", None, None, &[]).unwrap();
        assert!(holds(&archive, "setsid -c sh"));
        assert!(!holds(&archive, parser::BEGIN));
    }

    #[test]
    fn scripts_are_shell() {
        for has_command in [false, true] {
            let mut shell = std::process::Command::new("sh");
            shell.args(["-n", "-c", &script(has_command)]);
            assert!(shell.status().unwrap().success());
        }
    }

    #[test]
    fn a_shared_folder_is_copied() {
        let folder = std::env::temp_dir().join(format!("xtask-share-{}", std::process::id()));
        make_folder(&folder.join("sub")).unwrap();
        write(&folder.join("sub/file"), "contents of it").unwrap();
        std::os::unix::fs::symlink("sub/file", folder.join("link")).unwrap();
        let archive = make(b"program", None, Some(&folder), &[]).unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(holds(&archive, "share/sub/file\0"));
        assert!(holds(&archive, "contents of it"));
        assert!(holds(&archive, "share/link\0"));
        let missing = make(b"program", None, Some(&folder), &[]).unwrap_err();
        assert!(missing.to_string().ends_with("no such folder"), "{missing}");
    }

    /// Names are bytes; a link is copied as it is, wherever it leads; a socket is named and left out.
    #[test]
    fn odd_names_links_and_sockets_in_a_shared_folder() {
        let folder = std::env::temp_dir().join(format!("xtask-odd-{}", std::process::id()));
        make_folder(&folder).unwrap();
        let odd = std::ffi::OsStr::from_bytes(b"caf\xe9 'a\nb");
        write(&folder.join(odd), "odd contents").unwrap();
        std::os::unix::fs::symlink(odd, folder.join("to-odd")).unwrap();
        std::os::unix::fs::symlink("..", folder.join("loop")).unwrap();
        std::os::unix::fs::symlink("/no/such", folder.join("dangling")).unwrap();
        let socket = folder.join("socket");
        let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let (mut archive, mut left_out) = (Archive::default(), Vec::new());
        let added = add_folder(&mut archive, &folder, b"share", &folder, &mut left_out);
        drop(listener);
        std::fs::remove_dir_all(&folder).unwrap();
        added.unwrap();
        assert_eq!(left_out, [socket]);
        let archive = archive.finish();
        assert!(holds(&archive, b"share/caf\xe9 'a\nb\0"));
        assert!(holds(&archive, b"share/to-odd\0"));
        assert_eq!(
            archive.windows(4).filter(|w| *w == b"caf\xe9").count(),
            2,
            "the name and the link's target"
        );
        for (name, target) in [("loop", ".."), ("dangling", "/no/such")] {
            assert!(holds(&archive, format!("share/{name}\0")));
            assert!(holds(&archive, target));
        }
        assert!(!holds(&archive, "share/socket"));
    }
}
