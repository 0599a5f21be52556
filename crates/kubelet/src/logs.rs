//! Containers' logs in the CRI's format: `TIME STREAM P|F TEXT`, a line each; `P` is continued by the next line.
//!
//! [`Reader`] turns raw bytes into what a client asked for (pure); [`follow`] reads a file as it grows, woken by the
//! kernel, and ends when its container has.

mod follow;

use std::collections::VecDeque;
use std::io::{self, SeekFrom};
use std::path::Path;

use jiff::Timestamp;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

pub(crate) use follow::stream;

/// What of a log is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) follow: bool,
    pub(crate) tail_lines: Option<usize>,
    pub(crate) since: Option<Timestamp>,
    pub(crate) timestamps: bool,
    pub(crate) limit_bytes: Option<usize>,
    /// `Stdout`, `Stderr`, or both.
    pub(crate) only: Option<Stream>,
}

/// Which output a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

/// One line of the file.
#[derive(Debug, PartialEq, Eq)]
struct Line<'a> {
    time: &'a [u8],
    stream: Stream,
    partial: bool,
    text: &'a [u8],
}

fn parse(line: &[u8]) -> Option<Line<'_>> {
    let mut parts = line.splitn(4, |byte| *byte == b' ');
    let time = parts.next()?;
    let stream = match parts.next()? {
        b"stdout" => Stream::Stdout,
        b"stderr" => Stream::Stderr,
        _ => return None,
    };
    let partial = parts.next()?.split(|byte| *byte == b':').next() == Some(b"P");
    Some(Line { time, stream, partial, text: parts.next().unwrap_or_default() })
}

/// Turns raw log bytes into the text that was asked for.
#[derive(Default)]
pub(crate) struct Reader {
    options: Options,
    /// The begin of a line whose end was not read yet.
    rest: Vec<u8>,
    /// Inside a line of the container: no timestamp before the next piece.
    continued: bool,
    written: usize,
}

impl Reader {
    pub(crate) fn new(options: Options) -> Self {
        Self { options, ..Self::default() }
    }

    /// Whether the limit is reached: nothing more will come.
    pub(crate) fn full(&self) -> bool {
        self.options.limit_bytes.is_some_and(|limit| self.written >= limit)
    }

    /// Takes raw bytes, returns text.
    pub(crate) fn read(&mut self, raw: &[u8]) -> Vec<u8> {
        self.rest.extend_from_slice(raw);
        let end = self.rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let whole: Vec<u8> = self.rest.drain(..end).collect();
        let mut out = Vec::new();
        for line in whole.split_inclusive(|byte| *byte == b'\n') {
            self.line(line.strip_suffix(b"\n").unwrap_or(line), &mut out);
        }
        let left = self.options.limit_bytes.map_or(usize::MAX, |limit| limit.saturating_sub(self.written));
        out.truncate(left);
        self.written += out.len();
        out
    }

    fn line(&mut self, raw: &[u8], out: &mut Vec<u8>) {
        let Some(line) = parse(raw) else { return };
        if self.options.only.is_some_and(|only| only != line.stream) || self.too_old(line.time) {
            return;
        }
        if self.options.timestamps && !self.continued {
            out.extend_from_slice(line.time);
            out.push(b' ');
        }
        out.extend_from_slice(line.text);
        self.continued = line.partial;
        if !line.partial {
            out.push(b'\n');
        }
    }

    fn too_old(&self, time: &[u8]) -> bool {
        let Some(since) = self.options.since else { return false };
        let time = std::str::from_utf8(time).ok().and_then(|text| text.parse::<Timestamp>().ok());
        time.is_some_and(|time| time < since)
    }
}

/// Where the last lines of a file begin: the offset of the first byte of the line that is `lines` before the end.
pub(crate) async fn tail_offset(file: &mut tokio::fs::File, lines: usize) -> io::Result<u64> {
    const BLOCK: u64 = 64 * 1024;
    let end = file.seek(SeekFrom::End(0)).await?;
    if lines == 0 {
        return Ok(end);
    }
    // Positions of line ends, the last ones seen; one more than asked, as the file ends with one.
    let mut ends: VecDeque<u64> = VecDeque::new();
    let mut at = end;
    while at > 0 && ends.len() <= lines {
        let from = at.saturating_sub(BLOCK);
        file.seek(SeekFrom::Start(from)).await?;
        let mut block = vec![0; usize::try_from(at - from).unwrap_or(0)];
        file.read_exact(&mut block).await?;
        for (index, _) in block.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            ends.push_back(from + index as u64);
            if ends.len() > lines {
                break;
            }
        }
        at = from;
    }
    Ok(ends.get(lines).map_or(0, |end| end + 1))
}

/// The last bytes of a file.
pub(crate) async fn tail(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    let mut file = tokio::fs::File::open(path).await?;
    let size = file.metadata().await?.len();
    file.seek(SeekFrom::Start(size.saturating_sub(max))).await?;
    let mut bytes = Vec::new();
    file.take(max).read_to_end(&mut bytes).await?;
    Ok(bytes)
}

/// The text of the last lines of raw log bytes.
pub(crate) fn plain(raw: &[u8], lines: usize) -> Vec<u8> {
    let text = Reader::default().read(raw);
    let ends: Vec<usize> =
        text.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at).collect();
    let from = ends.len().checked_sub(lines + 1).map_or(0, |index| ends[index] + 1);
    text[from..].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "2026-11-22T10:00:00.000000001Z stdout F one\n2026-11-22T10:00:01Z stderr P tw\n\
                       2026-11-22T10:00:01Z stderr F o\nrubbish\n2026-11-22T10:00:02Z stdout F \n";

    fn read(options: Options) -> String {
        let mut reader = Reader::new(options);
        // In two pieces, cut inside a line.
        let mut out = reader.read(&LOG.as_bytes()[..50]);
        out.extend(reader.read(&LOG.as_bytes()[50..]));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn lines_are_joined_filtered_and_stamped() {
        assert_eq!(read(Options::default()), "one\ntwo\n\n");
        let stamped = read(Options { timestamps: true, ..Options::default() });
        assert!(
            stamped.starts_with("2026-11-22T10:00:00.000000001Z one\n2026-11-22T10:00:01Z two\n"),
            "{stamped}"
        );
        let since = Some("2026-11-22T10:00:01Z".parse().unwrap());
        assert_eq!(read(Options { since, ..Options::default() }), "two\n\n");
        assert_eq!(read(Options { only: Some(Stream::Stdout), ..Options::default() }), "one\n\n");
        assert_eq!(read(Options { limit_bytes: Some(5), ..Options::default() }), "one\nt");
    }

    #[tokio::test]
    async fn the_tail_is_found_from_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let lines: String = (0..20_000).map(|n| format!("line {n}\n")).collect();
        std::fs::write(&path, &lines).unwrap();
        let mut file = tokio::fs::File::open(&path).await.unwrap();
        for (count, first) in
            [(1, "line 19999\n"), (3, "line 19997\n"), (15_000, "line 5000\n"), (30_000, "line 0\n")]
        {
            let at = usize::try_from(tail_offset(&mut file, count).await.unwrap()).unwrap();
            assert!(lines[at..].starts_with(first), "{count}");
        }
        assert_eq!(tail_offset(&mut file, 0).await.unwrap(), lines.len() as u64);
    }

    #[test]
    fn the_end_of_a_log_stands_in_for_a_message() {
        assert_eq!(plain(LOG.as_bytes(), 2), b"two\n\n");
    }
}
