//! Reading what strace writes with `-f -yy`.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;

/// One system call that ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Its name.
    pub name: String,
    /// The file behind its first argument, empty for sockets.
    pub path: String,
    /// The other end of the socket behind its first argument.
    pub peer: Option<SocketAddr>,
    /// The beginning of the first data it wrote.
    pub data: Vec<u8>,
    /// What it returned, −1 for an error.
    pub result: i64,
    /// The line on which it began.
    pub begin: usize,
    /// The line on which it returned.
    pub end: usize,
}

impl Call {
    /// Makes a file's data durable, and did.
    pub fn is_sync(&self) -> bool {
        matches!(self.name.as_str(), "fdatasync" | "fsync") && self.result == 0
    }

    /// Whether its file is a segment of a partition.
    pub fn is_segment(&self) -> bool {
        self.has_extension("log")
    }

    /// Whether its file is a piece of the route journal.
    pub fn is_journal(&self) -> bool {
        self.has_extension("journal")
    }

    fn has_extension(&self, wanted: &str) -> bool {
        Path::new(&self.path).extension().is_some_and(|extension| extension == wanted)
    }

    /// Writes data.
    pub fn is_write(&self) -> bool {
        matches!(self.name.as_str(), "pwrite64" | "pwritev" | "pwritev2" | "write" | "writev") && self.result > 0
    }
}

/// Every call of the trace that ended, by the line on which it began.
pub fn parse(text: &str) -> Vec<Call> {
    let mut calls = Vec::new();
    let mut unfinished: HashMap<&str, (usize, String)> = HashMap::new();
    for (number, line) in text.lines().enumerate() {
        let Some((thread, rest)) = line.trim_start().split_once(' ') else { continue };
        let rest = rest.trim_start();
        if let Some(head) = rest.strip_suffix("<unfinished ...>") {
            unfinished.insert(thread, (number, head.to_owned()));
        } else if let Some(resumed) = rest.strip_prefix("<... ") {
            let tail = resumed.split_once(" resumed>").map_or("", |(_, tail)| tail);
            if let Some((begin, head)) = unfinished.remove(thread) {
                calls.extend(call(&format!("{head}{tail}"), begin, number));
            }
        } else {
            calls.extend(call(rest, number, number));
        }
    }
    calls.sort_by_key(|call| call.begin);
    calls
}

/// `name(3<what>, …) = result …`
fn call(text: &str, begin: usize, end: usize) -> Option<Call> {
    let (name, rest) = text.split_once('(')?;
    let result = text.rsplit_once(" = ")?.1.split_whitespace().next()?.parse().ok()?;
    let behind = descriptor(rest);
    let peer = behind
        .strip_prefix("TCP:[")
        .or_else(|| behind.strip_prefix("TCPv6:["))
        .and_then(|ends| ends.trim_end_matches(']').split_once("->"))
        .and_then(|(_, peer)| peer.parse().ok());
    let path = if behind.starts_with('/') { behind.to_owned() } else { String::new() };
    Some(Call { name: name.to_owned(), path, peer, data: first_data(rest), result, begin, end })
}

/// `9</path>, …` → `/path`; `6<TCP:[a->b]>, …` → `TCP:[a->b]`.
fn descriptor(arguments: &str) -> &str {
    let Some(start) = arguments.find('<') else { return "" };
    let rest = &arguments[start + 1..];
    let end = [">,", ">)", "> "].iter().filter_map(|end| rest.find(end)).min();
    end.map_or(rest.trim_end_matches('>'), |end| &rest[..end])
}

/// The first quoted string, its escapes undone.
fn first_data(arguments: &str) -> Vec<u8> {
    let Some(start) = arguments.find('"') else { return Vec::new() };
    let mut data = Vec::new();
    let mut bytes = arguments.as_bytes()[start + 1..].iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => break,
            b'\\' => match bytes.next() {
                Some(b'n') => data.push(b'\n'),
                Some(b't') => data.push(b'\t'),
                Some(b'r') => data.push(b'\r'),
                Some(b'v') => data.push(0x0b),
                Some(b'f') => data.push(0x0c),
                Some(b'x') => {
                    let digits: String = bytes.by_ref().take(2).map(char::from).collect();
                    data.extend(u8::from_str_radix(&digits, 16));
                }
                Some(digit @ b'0'..=b'7') => {
                    let mut number = u32::from(digit - b'0');
                    // strace writes as few digits as it can: at most three, all octal.
                    for _ in 0..2 {
                        let Some(next) = bytes.next_if(|next| matches!(next, b'0'..=b'7')) else { break };
                        number = number * 8 + u32::from(next - b'0');
                    }
                    data.push(number as u8);
                }
                Some(other) => data.push(other),
                None => break,
            },
            other => data.push(other),
        }
    }
    data
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_sockets_and_data_are_read() {
        let text = "12 pwrite64(5</a b/t-0/0.log>, \"\\0\\0\\0\\0\\0\\0\\1\\377\\n\\\"x\"..., 80, 0) = 80\n\
                    13 writev(8<TCP:[127.0.0.1:1->127.0.0.1:77]>, [{iov_base=\"\\0\\17\", iov_len=2}], 1) = 2\n\
                    13 fdatasync(5</a b/t-0/0.log>) = -1 EIO (Input/output error)\n";
        let calls = parse(text);
        assert_eq!(calls[0].path, "/a b/t-0/0.log");
        assert_eq!(calls[0].data, b"\0\0\0\0\0\0\x01\xff\n\"x");
        assert_eq!(calls[1].peer, Some(SocketAddr::from(([127, 0, 0, 1], 77))));
        assert_eq!(calls[1].data, [0, 0o17]);
        assert_eq!(calls[2].result, -1);
        assert!(!calls[2].is_sync());
    }

    #[test]
    fn a_call_that_was_interrupted_in_the_trace_has_two_lines() {
        let text = "1 fdatasync(5</f> <unfinished ...>\n2 write(1</x>, \"a\", 1) = 1\n1 <... fdatasync resumed>) = 0\n";
        let calls = parse(text);
        assert_eq!((calls[0].name.as_str(), calls[0].begin, calls[0].end), ("fdatasync", 0, 2));
        assert!(calls[0].is_sync());
    }
}
