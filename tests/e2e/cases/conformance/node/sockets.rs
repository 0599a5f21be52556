//! Pods' streams over WebSocket, byte by byte as a browser would have them: no client library stands between.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};

use super::{Run, Table, pod};
use crate::harness::{Namespace, Running};

pub const CASES: Table = &[(
    &[
        "[sig-node] Pods should support remote command execution over websockets [NodeConformance]",
        "[sig-node] Pods should support retrieving logs from the container over websockets [NodeConformance]",
    ],
    Run::Shared(sockets),
)];

fn sockets(ns: &Namespace<'_>) -> Result<()> {
    ns.apply(&pod("p", "", &["name: c"]))?;
    ns.wait("condition=Ready", &["pod/p"])?;
    let mut proxy = ns.kubectl_command();
    let mut proxy =
        Running::bounded(proxy.args(["proxy", "--port=0", "--reject-paths=^$"]).stdout(Stdio::piped()))?;
    let output = proxy.0.stdout.take().context("no output")?;
    let mut said = String::new();
    BufReader::new(output).read_line(&mut said)?;
    let address = said.trim().rsplit(' ').next().context("no address")?;
    let path = format!("/api/v1/namespaces/{}/pods/p", ns.name);

    let command = "command=cat&command=/etc/hostname&stdout=1&stderr=1&container=c";
    let messages = open(address, &format!("{path}/exec?{command}"), "v4.channel.k8s.io")?;
    let of = |channel: u8| -> Vec<u8> {
        let own = messages.iter().filter(|message| message.first() == Some(&channel));
        own.flat_map(|message| message.iter().skip(1).copied()).collect()
    };
    let (output, status) = (of(1), String::from_utf8(of(3))?);
    ensure!(output == b"p\n", "{output:?}");
    ensure!(status.contains("\"Success\""), "{status}");

    let messages = open(address, &format!("{path}/log?container=c"), "binary.k8s.io")?;
    let log = String::from_utf8(messages.concat())?;
    ensure!(log.contains("p listens on port 8080") && log == ns.kubectl(&["logs", "p"])?, "{log}");
    Ok(())
}

/// Opens a socket, says nothing, and reads what the other side says until it closes it.
fn open(address: &str, path: &str, protocol: &str) -> Result<Vec<Vec<u8>>> {
    let mut socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(crate::harness::PATIENCE))?;
    write!(
        socket,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAECAwQFBgcICQoLDA0ODw==\r\n\
         Sec-WebSocket-Protocol: {protocol}\r\n\r\n"
    )?;
    let mut reader = BufReader::new(socket);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        ensure!(reader.read_line(&mut head)? > 0, "the answer ended: {head}");
    }
    ensure!(head.starts_with("HTTP/1.1 101 "), "{head}");
    ensure!(head.to_lowercase().contains(&format!("sec-websocket-protocol: {protocol}\r\n")), "{head}");
    let mut messages = Vec::new();
    while let Some(message) = frame(&mut reader)? {
        messages.push(message);
    }
    Ok(messages)
}

/// The next message with contents; `None` at the end.
fn frame(reader: &mut impl Read) -> Result<Option<Vec<u8>>> {
    let mut head = [0; 2];
    reader.read_exact(&mut head)?;
    let length = match head[1] {
        126 => {
            let mut more = [0; 2];
            reader.read_exact(&mut more)?;
            u64::from(u16::from_be_bytes(more))
        }
        127 => {
            let mut more = [0; 8];
            reader.read_exact(&mut more)?;
            u64::from_be_bytes(more)
        }
        short => short.into(),
    };
    let mut message = Vec::new();
    reader.take(length).read_to_end(&mut message)?;
    match head[0] & 0x0f {
        0..=2 => Ok(Some(message)),
        8 => Ok(None),
        _ => frame(reader),
    }
}
