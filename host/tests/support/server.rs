//! Servers on loopback that answer with bytes as told, right or wrong.
#![allow(clippy::disallowed_methods, reason = "a test server ends with its test's runtime")]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use async_compression::Level;
use async_compression::tokio::bufread::{BrotliEncoder, GzipEncoder, ZlibEncoder, ZstdEncoder};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Barrier;
use tokio::task::JoinHandle;

/// Ends with the test.
pub struct Server {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
    accepting: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

type Answer = Arc<dyn Fn(&str) -> Vec<u8> + Send + Sync>;

/// What happens to a connection after its request was read.
#[derive(Clone)]
enum Manner {
    /// Answers, then closes; without a word where the answer is empty.
    Answer(Answer),
    /// Says this much and nothing more.
    Hang(&'static [u8]),
    /// Says this much to each request, and keeps the connection.
    Keep(Arc<Vec<u8>>),
    /// Answers with the path once this many requests are under way.
    InStep(Arc<Barrier>),
}

impl Server {
    pub async fn start(answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self::listen(Manner::Answer(Arc::new(answer))).await
    }

    pub async fn hanging(start: &'static [u8]) -> Self {
        Self::listen(Manner::Hang(start)).await
    }

    pub async fn keeping(answer: Vec<u8>) -> Self {
        Self::listen(Manner::Keep(Arc::new(answer))).await
    }

    pub async fn in_step(requests: usize) -> Self {
        Self::listen(Manner::InStep(Arc::new(Barrier::new(requests)))).await
    }

    async fn listen(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::<Mutex<Vec<String>>>::default();
        let seen = requests.clone();
        let accepting = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(stream, manner.clone(), seen.clone()));
            }
        });
        Self { address, requests, accepting }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// What came in, each request with its body.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    /// The first line of each request.
    pub fn lines(&self) -> Vec<String> {
        self.requests().iter().map(|request| request.lines().next().unwrap_or_default().to_owned()).collect()
    }
}

async fn serve(mut stream: TcpStream, manner: Manner, seen: Arc<Mutex<Vec<String>>>) {
    let Some(request) = read(&mut stream).await else { return };
    let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
    seen.lock().unwrap().push(request.clone());
    let answer = match manner {
        Manner::Answer(answer) => answer(&request),
        Manner::Hang(start) => {
            let _ = stream.write_all(start).await;
            // Until the other side gives up.
            let _ = stream.read_to_end(&mut Vec::new()).await;
            return;
        }
        Manner::Keep(answer) => {
            let _ = stream.write_all(&answer).await;
            while read(&mut stream).await.is_some() {
                let _ = stream.write_all(&answer).await;
            }
            return;
        }
        Manner::InStep(barrier) => {
            barrier.wait().await;
            ok(&path)
        }
    };
    let _ = stream.write_all(&answer).await;
    let _ = stream.shutdown().await;
}

/// A head and the body that it announces, by length or in chunks.
async fn read(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let is_tls = bytes.first() == Some(&0x16);
        if is_tls || is_complete(&text) {
            return Some(text);
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return (!text.is_empty()).then_some(text);
        }
    }
}

fn is_complete(text: &str) -> bool {
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let head = head.to_ascii_lowercase();
    if head.contains("transfer-encoding: chunked") {
        return body.ends_with("0\r\n\r\n");
    }
    let announced = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
    body.len() >= announced.unwrap_or(0)
}

pub fn ok(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len()).into_bytes()
}

/// Zeros, compressed as far as the format goes: one literal, then copies of 258 bytes in 13 bits each.
pub fn gzip_of_zeros(bytes: usize) -> Vec<u8> {
    let mut bits: Vec<bool> = vec![true, true, false];
    let mut push = |code: u32, length: u32| bits.extend((0..length).rev().map(|bit| code >> bit & 1 == 1));
    let literals = 1 + (bytes - 1) % 258;
    (0..literals).for_each(|_| push(0b0011_0000, 8));
    (0..(bytes - literals) / 258).for_each(|_| {
        push(0b1100_0101, 8);
        push(0, 5);
    });
    push(0, 7);
    let packed = bits.chunks(8).map(|byte| byte.iter().rev().fold(0u8, |sum, bit| sum << 1 | u8::from(*bit)));
    let mut gzip = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    gzip.extend(packed);
    gzip.extend(crc32_of_zeros(bytes).to_le_bytes());
    gzip.extend(u32::try_from(bytes).unwrap().to_le_bytes());
    gzip
}

fn crc32_of_zeros(bytes: usize) -> u32 {
    let step = |crc: u32| (0..8).fold(crc, |crc, _| crc >> 1 ^ (0xedb8_8320 * (crc & 1)));
    // Whole tables are not worth it: zeros only shift, and a large body is cut before its checksum is read.
    if bytes > 1_000_000 { 0 } else { !(0..bytes).fold(u32::MAX, |crc, _| step(crc)) }
}

/// Bytes compressed by `encoding`, as it is named in HTTP.
pub async fn compress(encoding: &str, bytes: &[u8]) -> Vec<u8> {
    let fast = Level::Fastest;
    let mut compressed = Vec::new();
    let copied = match encoding {
        "gzip" => GzipEncoder::with_quality(bytes, fast).read_to_end(&mut compressed).await,
        "br" => BrotliEncoder::with_quality(bytes, fast).read_to_end(&mut compressed).await,
        "zstd" => ZstdEncoder::with_quality(bytes, fast).read_to_end(&mut compressed).await,
        _ => ZlibEncoder::with_quality(bytes, fast).read_to_end(&mut compressed).await,
    };
    copied.unwrap();
    compressed
}
