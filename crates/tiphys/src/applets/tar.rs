//! `tar` as `kubectl cp` calls it: `tar cf - PATH…` and `tar xmf - [-C DIR]`, over standard output and input.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

/// What the words ask for.
#[derive(Debug, Default, PartialEq)]
struct Job {
    create: bool,
    extract: bool,
    keep_time: bool,
    dir: PathBuf,
    paths: Vec<PathBuf>,
}

/// Creates or extracts an archive.
pub(super) fn run(args: &[OsString]) -> Result<ExitCode> {
    let job = parse(args)?;
    match (job.create, job.extract) {
        (true, false) => create(&job)?,
        (false, true) => extract(&job)?,
        _ => bail!("usage: tar cf - PATH… | tar xf - [-C DIR]"),
    }
    Ok(ExitCode::SUCCESS)
}

fn parse(args: &[OsString]) -> Result<Job> {
    let mut job = Job { keep_time: true, dir: ".".into(), ..Job::default() };
    let mut words = args.iter();
    let mut first = true;
    while let Some(word) = words.next() {
        match word.to_str() {
            Some("-C") => job.dir = words.next().context("-C needs a directory")?.into(),
            Some("-") | Some("--no-same-permissions" | "--no-same-owner" | "--") => {}
            Some(flags) if first || (flags.starts_with('-') && !flags.starts_with("--")) => {
                set_flags(&mut job, flags.trim_start_matches('-'))?;
            }
            _ => job.paths.push(word.into()),
        }
        first = false;
    }
    Ok(job)
}

fn set_flags(job: &mut Job, flags: &str) -> Result<()> {
    for flag in flags.chars() {
        match flag {
            'c' => job.create = true,
            'x' => job.extract = true,
            'm' => job.keep_time = false,
            // The archive is always standard input or output; ownership and modes are kept as the archive has them.
            'f' | 'p' | 'o' => {}
            other => bail!("flag {other} is not known here"),
        }
    }
    Ok(())
}

fn create(job: &Job) -> Result<()> {
    let mut archive = tar::Builder::new(io::stdout().lock());
    archive.follow_symlinks(false);
    for path in &job.paths {
        let full = job.dir.join(path);
        let inside = path.strip_prefix("/").unwrap_or(path);
        let inside = if inside == Path::new("") { Path::new(".") } else { inside };
        let added = match full.is_dir() {
            true => archive.append_dir_all(inside, &full),
            false => archive.append_path_with_name(&full, inside),
        };
        added.with_context(|| path.display().to_string())?;
    }
    archive.finish()?;
    Ok(())
}

fn extract(job: &Job) -> Result<()> {
    let mut archive = tar::Archive::new(io::stdin().lock());
    archive.set_preserve_mtime(job.keep_time);
    archive.unpack(&job.dir).with_context(|| job.dir.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn kubectl_words_are_understood() {
        let download = parse(&words("cf - /tmp/a b")).unwrap();
        assert!(download.create && download.paths == [PathBuf::from("/tmp/a"), PathBuf::from("b")]);
        let upload = parse(&words("-xmf - -C /dir")).unwrap();
        assert!(upload.extract && !upload.keep_time && upload.dir == Path::new("/dir"));
        assert!(parse(&words("--no-same-permissions --no-same-owner -xmf -")).unwrap().extract);
        assert!(parse(&words("czf - x")).is_err());
    }
}
