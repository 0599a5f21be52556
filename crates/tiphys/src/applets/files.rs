//! The hello image's tools that show what a process is and may: who it runs as, whose a file is, what can be written.

use std::ffi::OsString;
use std::fs::{File, Metadata, Permissions, symlink_metadata};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use rustix::process::{getgid, getgroups, getuid};

/// `id`: user, group and supplementary groups, as numbers.
pub(super) fn id() -> Result<ExitCode> {
    let mut groups: Vec<u32> = getgroups()?.iter().map(|group| group.as_raw()).collect();
    groups.sort_unstable();
    let groups: Vec<String> = groups.iter().map(u32::to_string).collect();
    writeln!(io::stdout(), "uid={} gid={} groups={}", getuid(), getgid(), groups.join(","))?;
    Ok(ExitCode::SUCCESS)
}

/// `ls [PATH…]`: type and permissions in octal, user, group and name of each path; of a directory, also of what is in it.
pub(super) fn ls(args: &[OsString]) -> Result<ExitCode> {
    let mut out = io::stdout().lock();
    let here = [OsString::from(".")];
    for path in if args.is_empty() { &here } else { args } {
        let path = Path::new(path);
        let meta = symlink_metadata(path).with_context(|| path.display().to_string())?;
        line(&mut out, &meta, path)?;
        if meta.is_dir() {
            for entry in path.read_dir()? {
                let entry = entry?;
                line(&mut out, &entry.metadata()?, Path::new(&entry.file_name()))?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn line(out: &mut impl Write, meta: &Metadata, name: &Path) -> io::Result<()> {
    writeln!(out, "{:o} {} {} {}", meta.mode(), meta.uid(), meta.gid(), name.display())
}

/// `readlink PATH…`
pub(super) fn readlink(args: &[OsString]) -> Result<ExitCode> {
    for path in args {
        let target = std::fs::read_link(path).with_context(|| path.to_string_lossy().into_owned())?;
        writeln!(io::stdout(), "{}", target.display())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// `chmod MODE PATH…`: sets permissions, given in octal.
pub(super) fn chmod(args: &[OsString]) -> Result<ExitCode> {
    let (mode, paths) = args.split_first().context("usage: chmod MODE PATH…")?;
    let mode = u32::from_str_radix(&mode.to_string_lossy(), 8).context("the mode must be octal")?;
    for path in paths {
        let set = std::fs::set_permissions(path, Permissions::from_mode(mode));
        set.with_context(|| path.to_string_lossy().into_owned())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// `tee FILE`: writes what it reads to a file, and prints it.
pub(super) fn tee(args: &[OsString]) -> Result<ExitCode> {
    let path = args.first().context("usage: tee FILE")?;
    let mut text = Vec::new();
    io::stdin().lock().read_to_end(&mut text)?;
    std::fs::write(path, &text).with_context(|| path.to_string_lossy().into_owned())?;
    io::stdout().lock().write_all(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// `touch PATH…`: makes files that are not there yet.
pub(super) fn touch(args: &[OsString]) -> Result<ExitCode> {
    for path in args {
        let open = File::options().create(true).append(true).open(path);
        open.with_context(|| path.to_string_lossy().into_owned())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// `rm PATH…`: removes files, and directories with all that is in them; what is not there is no error.
pub(super) fn rm(args: &[OsString]) -> Result<ExitCode> {
    for path in args {
        let removed = match symlink_metadata(path) {
            Ok(meta) if meta.is_dir() => std::fs::remove_dir_all(path),
            Ok(_) => std::fs::remove_file(path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        };
        removed.with_context(|| path.to_string_lossy().into_owned())?;
    }
    Ok(ExitCode::SUCCESS)
}
