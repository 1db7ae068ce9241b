//! A local server that imitates the Hugging Face hub and its CDN, with faults on request.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};

pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A received request.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    /// Whether the request was sent to the CDN, not to the hub.
    pub(crate) is_cdn: bool,
    /// Headers by lower-case name.
    pub(crate) headers: BTreeMap<String, String>,
    /// Number of equal requests before this one.
    pub(crate) nth: usize,
}

impl Request {
    pub(crate) fn is_weights(&self) -> bool {
        self.method == "GET" && self.is_cdn
    }
}

/// Fault of a response.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// No fault.
    No,
    /// This status and these header lines.
    Status(u16, String),
    /// Closes the connection after this number of bytes of the body.
    Cut(usize),
    /// Changes the first byte of the body.
    Corrupt,
    /// Sends this number of bytes of the body, and the rest after a pause.
    Pause(usize, Duration),
    /// Sends the whole file, whatever range was requested.
    NoRange,
    /// Replaces the ETag.
    Etag(&'static str),
}

type Faults = Box<dyn Fn(&Request) -> Fault + Send + Sync>;

pub(crate) struct Server {
    pub(crate) endpoint: String,
    log: Arc<Mutex<Vec<Request>>>,
}

struct Shared {
    files: BTreeMap<String, Vec<u8>>,
    cdn: String,
    faults: Faults,
    log: Arc<Mutex<Vec<Request>>>,
}

/// Returns SHA-256 for files in Git LFS, and git's SHA-1 for others.
pub(crate) fn checksum(name: &str, bytes: &[u8]) -> String {
    let digest = match is_large(name) {
        true => digest(&SHA256, bytes),
        false => {
            let header = format!("blob {}\0", bytes.len());
            digest(
                &SHA1_FOR_LEGACY_USE_ONLY,
                &[header.as_bytes(), bytes].concat(),
            )
        }
    };
    digest.as_ref().iter().map(|b| format!("{b:02x}")).collect()
}

fn is_large(name: &str) -> bool {
    name.ends_with(".safetensors") || name.ends_with(".bin")
}

impl Server {
    pub(crate) fn start(
        files: &[(&str, Vec<u8>)],
        faults: impl Fn(&Request) -> Fault + Send + Sync + 'static,
    ) -> Self {
        let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let ports = [0, 1].map(|i| listeners[i].local_addr().unwrap().port());
        let log = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::new(Shared {
            files: files
                .iter()
                .map(|(name, bytes)| ((*name).to_owned(), bytes.clone()))
                .collect(),
            cdn: format!("http://localhost:{}", ports[1]),
            faults: Box::new(faults),
            log: Arc::clone(&log),
        });
        for (listener, is_cdn) in listeners.into_iter().zip([false, true]) {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                for stream in listener.incoming() {
                    let shared = Arc::clone(&shared);
                    thread::spawn(move || {
                        let _ = shared.serve(&stream.unwrap(), is_cdn);
                    });
                }
            });
        }
        Self {
            endpoint: format!("http://127.0.0.1:{}", ports[0]),
            log,
        }
    }

    pub(crate) fn log(&self) -> Vec<Request> {
        self.log.lock().unwrap().clone()
    }

    /// Returns the `Range` header of every request for weights.
    pub(crate) fn ranges(&self) -> Vec<Option<String>> {
        self.log()
            .into_iter()
            .filter(Request::is_weights)
            .map(|request| request.headers.get("range").cloned())
            .collect()
    }
}

impl Shared {
    fn serve(&self, mut stream: &TcpStream, is_cdn: bool) -> std::io::Result<()> {
        let mut lines = BufReader::new(stream).lines();
        let mut first = lines.next().unwrap_or(Ok(String::new()))?;
        let mut headers = read_headers(&mut lines)?;
        if first.starts_with("CONNECT ") {
            // The request to the proxy; the tunnelled request follows.
            headers.insert("proxied".into(), "yes".into());
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
            first = lines.next().unwrap_or(Ok(String::new()))?;
            headers.extend(read_headers(&mut lines)?);
        }
        let mut words = first.split(' ');
        let mut word = || words.next().unwrap_or_default().to_owned();
        let (method, path) = (word(), word());
        let request = {
            let mut log = self.log.lock().unwrap();
            let same = |r: &&Request| (&r.method, &r.path, r.is_cdn) == (&method, &path, is_cdn);
            let nth = log.iter().filter(same).count();
            let request = Request {
                method,
                path,
                is_cdn,
                headers,
                nth,
            };
            log.push(request.clone());
            request
        };
        self.answer(stream, &request)
    }

    fn answer(&self, mut stream: &TcpStream, request: &Request) -> std::io::Result<()> {
        let fault = (self.faults)(request);
        if let Fault::Status(status, headers) = &fault {
            let head = format!(
                "HTTP/1.1 {status} Said\r\n{headers}Content-Length: 0\r\nConnection: close\r\n\r\n"
            );
            return stream.write_all(head.as_bytes());
        }
        if request.path.starts_with("/api/models/") {
            let siblings: Vec<_> = self
                .files
                .keys()
                .map(|name| format!(r#"{{"rfilename":"{name}"}}"#))
                .collect();
            let json = format!(
                r#"{{"sha":"{COMMIT}","siblings":[{}]}}"#,
                siblings.join(",")
            );
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{json}",
                json.len()
            );
            return stream.write_all(head.as_bytes());
        }
        let name = request.path.rsplit('/').next().unwrap_or_default();
        let Some(bytes) = self.files.get(name) else {
            let head = "HTTP/1.1 404 Not Found\r\nX-Error-Code: EntryNotFound\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            return stream.write_all(head.as_bytes());
        };
        let etag = match fault {
            Fault::Etag(etag) => etag.to_owned(),
            _ => format!("\"{}\"", checksum(name, bytes)),
        };
        let mut head = format!("X-Repo-Commit: {COMMIT}\r\nConnection: close\r\n");
        if is_large(name) && !request.is_cdn {
            head += &format!(
                "X-Linked-Etag: {etag}\r\nX-Linked-Size: {}\r\nLocation: {}/cdn/{name}\r\nContent-Length: 0\r\n",
                bytes.len(),
                self.cdn
            );
            return stream.write_all(format!("HTTP/1.1 302 Found\r\n{head}\r\n").as_bytes());
        }
        let range = request.headers.get("range");
        let from: usize = match (range, &fault) {
            (Some(range), fault) if !matches!(fault, Fault::NoRange) => {
                let from = range.trim_start_matches("bytes=").trim_end_matches('-');
                from.parse().unwrap()
            }
            _ => 0,
        };
        let mut body = bytes[from..].to_vec();
        let status = match from {
            0 => "200 OK".to_owned(),
            _ => {
                head += &format!(
                    "Content-Range: bytes {from}-{}/{}\r\n",
                    bytes.len() - 1,
                    bytes.len()
                );
                "206 Partial Content".to_owned()
            }
        };
        head += &format!("ETag: {etag}\r\nContent-Length: {}\r\n", body.len());
        stream.write_all(format!("HTTP/1.1 {status}\r\n{head}\r\n").as_bytes())?;
        if request.method == "HEAD" {
            return Ok(());
        }
        match fault {
            Fault::Cut(n) => body.truncate(n),
            Fault::Corrupt => body[0] ^= 1,
            Fault::Pause(n, pause) => {
                stream.write_all(&body[..n])?;
                stream.flush()?;
                thread::sleep(pause);
                body.drain(..n);
            }
            _ => {}
        }
        stream.write_all(&body)
    }
}

fn read_headers(
    lines: &mut impl Iterator<Item = std::io::Result<String>>,
) -> std::io::Result<BTreeMap<String, String>> {
    let mut headers = BTreeMap::new();
    for line in lines {
        let line = line?;
        let Some((name, value)) = line.split_once(':') else {
            break;
        };
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    Ok(headers)
}
