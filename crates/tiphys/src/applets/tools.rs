//! The hello image's small tools.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RData, RecordType};

const TIMEOUT: Duration = Duration::from_secs(5);

/// `get http://host[:port]/path`: prints the body; fails unless the answer is 2xx. `get udp://host:port/` sends a datagram
/// and prints the one that comes back.
pub(super) fn get(args: &[OsString]) -> Result<ExitCode> {
    let url = text(args, 0).context("usage: get http://HOST[:PORT]/PATH")?;
    let (scheme, rest) = url.split_once("://").unwrap_or(("http", &url));
    let (authority, path) = rest.split_once('/').map_or((rest, String::new()), |(a, p)| (a, p.to_owned()));
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().context("the port must be a number")?),
        None => (authority, 80),
    };
    let address = resolve(host)?.into_iter().next().with_context(|| format!("{host} has no address"))?;
    let address = SocketAddr::new(address, port);
    if scheme == "udp" {
        return datagram(address);
    }
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    write!(stream, "GET /{path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").context("the answer is no HTTP")?;
    print!("{body}");
    match head.split(' ').nth(1) {
        Some(code) if code.starts_with('2') => Ok(ExitCode::SUCCESS),
        code => bail!("status {}", code.unwrap_or("missing")),
    }
}

fn datagram(address: SocketAddr) -> Result<ExitCode> {
    let unspecified: IpAddr = if address.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
    let socket = UdpSocket::bind((unspecified, 0))?;
    socket.set_read_timeout(Some(TIMEOUT))?;
    socket.connect(address)?;
    socket.send(b"get")?;
    let mut answer = [0; 2048];
    let length = socket.recv(&mut answer)?;
    io::stdout().write_all(answer.get(..length).unwrap_or_default())?;
    Ok(ExitCode::SUCCESS)
}

/// `lookup NAME [TYPE]`: prints what the pod's resolver answers, one record a line.
pub(super) fn lookup(args: &[OsString]) -> Result<ExitCode> {
    let name = text(args, 0).context("usage: lookup NAME [TYPE]")?;
    let kind = text(args, 1)
        .map_or(Ok(RecordType::A), |t| t.to_uppercase().parse())
        .context("unknown record type")?;
    let records = search(&name, kind)?;
    for record in &records {
        println!("{record}");
    }
    Ok(if records.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// `cat [FILE…]`
pub(super) fn cat(args: &[OsString]) -> Result<ExitCode> {
    let mut out = io::stdout().lock();
    if args.is_empty() {
        io::copy(&mut io::stdin().lock(), &mut out)?;
    }
    for path in args {
        let mut file = std::fs::File::open(path).with_context(|| path.to_string_lossy().into_owned())?;
        io::copy(&mut file, &mut out)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// `env`
pub(super) fn env() -> Result<ExitCode> {
    let mut out = io::stdout().lock();
    for (name, value) in std::env::vars_os() {
        writeln!(out, "{}={}", name.to_string_lossy(), value.to_string_lossy())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// `sleep SECONDS`
pub(super) fn sleep(args: &[OsString]) -> Result<ExitCode> {
    let seconds: f64 = text(args, 0).context("usage: sleep SECONDS")?.parse()?;
    let time = Duration::try_from_secs_f64(seconds)?;
    // Waiting on a channel that stays silent: an applet has no other event to wait for.
    let (_silent, never) = std::sync::mpsc::channel::<()>();
    let _ = never.recv_timeout(time);
    Ok(ExitCode::SUCCESS)
}

/// `exit CODE [SECONDS]`: ends with this code, after a while.
pub(super) fn exit(args: &[OsString]) -> Result<ExitCode> {
    let code: u8 = text(args, 0).context("usage: exit CODE [SECONDS]")?.parse()?;
    if args.len() > 1 {
        sleep(args.get(1..).unwrap_or_default())?;
    }
    Ok(ExitCode::from(code))
}

/// `write FILE TEXT…`: appends the words and a line's end.
pub(super) fn write(args: &[OsString]) -> Result<ExitCode> {
    let (path, words) = args.split_first().context("usage: write FILE TEXT…")?;
    let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
    let open = std::fs::File::options().create(true).append(true).open(path);
    let mut file = open.with_context(|| path.to_string_lossy().into_owned())?;
    writeln!(file, "{}", words.join(" "))?;
    Ok(ExitCode::SUCCESS)
}

fn text(args: &[OsString], index: usize) -> Option<String> {
    args.get(index).map(|a| a.to_string_lossy().into_owned())
}

fn resolve(host: &str) -> Result<Vec<IpAddr>> {
    if let Ok(address) = host.parse() {
        return Ok(vec![address]);
    }
    let records = search(host, RecordType::A)?;
    Ok(records.iter().filter_map(|data| data.parse().ok()).collect())
}

/// Asks for the name with each search domain as resolv.conf says (`ndots` decides which comes first).
fn search(name: &str, kind: RecordType) -> Result<Vec<String>> {
    let config = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let words = |key: &str| -> Vec<&str> {
        config.lines().filter_map(|l| l.strip_prefix(key)).flat_map(str::split_whitespace).collect()
    };
    let ndots = words("options").iter().find_map(|o| o.strip_prefix("ndots:")?.parse().ok()).unwrap_or(1);
    let mut names: Vec<String> = words("search").iter().map(|domain| format!("{name}.{domain}.")).collect();
    let at = if name.matches('.').count() >= ndots { 0 } else { names.len() };
    names.insert(at, format!("{}.", name.trim_end_matches('.')));
    if name.ends_with('.') {
        names = vec![name.to_owned()];
    }
    let server: IpAddr = words("nameserver").first().context("resolv.conf names no server")?.parse()?;
    for name in names {
        let records = ask(server, &name, kind)?;
        if !records.is_empty() {
            return Ok(records);
        }
    }
    Ok(Vec::new())
}

fn ask(server: IpAddr, name: &str, kind: RecordType) -> Result<Vec<String>> {
    let mut query = Message::new(std::process::id() as u16, MessageType::Query, OpCode::Query);
    query.metadata.recursion_desired = true;
    query.add_query(Query::query(Name::from_utf8(name)?, kind));
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.set_read_timeout(Some(TIMEOUT))?;
    socket.connect((server, 53))?;
    socket.send(&query.to_vec()?)?;
    let mut answer = [0; 4096];
    let read = socket.recv(&mut answer).with_context(|| format!("no answer from {server}"))?;
    let answer = Message::from_vec(answer.get(..read).unwrap_or_default())?;
    Ok(answer.answers.iter().map(|record| data(&record.data)).collect())
}

fn data(data: &RData) -> String {
    data.to_string()
}
