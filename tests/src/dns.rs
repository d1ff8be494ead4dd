//! A name server of the tests' own, over UDP and TCP: it answers what a test decides, lies included.
//!
//! The host asks it through the system's resolver, as in the world. It speaks no more of RFC 1035 than that needs: one
//! question a packet, addresses and aliases, answers that do not fit cut short so that they are asked for over TCP.

use std::collections::HashMap;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// What fits into a packet of a client that promises no more.
const PACKET_BYTES_MAX: usize = 512;
const HEADER_BYTES: usize = 12;
/// Stands for the name in the question, which begins right after the header.
const ASKED_NAME: [u8; 2] = [0xc0, 12];
/// Response, authoritative, recursion available; beside what the question says.
const ANSWERED: [u8; 2] = [0x85, 0x80];
const CUT_SHORT: u8 = 2;
const NO_SUCH_NAME: u8 = 3;
const KIND_A: u16 = 1;
const KIND_CNAME: u16 = 5;
const KIND_AAAA: u16 = 28;

/// What somebody asks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Question {
    /// The name, without a dot at its end.
    pub name: String,
    /// Which addresses.
    pub family: Family,
}

/// Which addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// `A`.
    V4,
    /// `AAAA`.
    V6,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing at all.
    Silence,
    /// There is no such name.
    NoSuchName,
    /// These; none where the name has none of that kind.
    Records(Vec<Record>),
}

/// One record. It belongs to the name that the alias before it leads to, the first to the name that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// An address.
    V4(Ipv4Addr),
    /// An address.
    V6(Ipv6Addr),
    /// Another name.
    Alias(&'static str),
}

/// A name server; its threads end with the process of the test, which is one of its own.
#[derive(Clone, Debug, Default)]
pub struct NameServer {
    asked: Arc<Mutex<HashMap<Question, usize>>>,
}

/// Decides by the question and by how often it was asked before.
type Decide = Arc<dyn Fn(&Question, usize) -> Found + Send + Sync>;

impl NameServer {
    /// Answers at `address` with no time to live at all.
    #[must_use]
    pub fn start(address: SocketAddr, decide: impl Fn(&Question, usize) -> Found + Send + Sync + 'static) -> Self {
        let server = Self::default();
        let packets = UdpSocket::bind(address).expect("the address is ours");
        let streams = TcpListener::bind(address).expect("the address is ours");
        let decide: Decide = Arc::new(decide);
        let (one, other) = (server.clone(), server.clone());
        let decided = decide.clone();
        spawn(move || one.serve_packets(&packets, &decided));
        spawn(move || other.serve_streams(&streams, &decide));
        server
    }

    /// How many different names ending in `suffix` were asked for.
    #[must_use]
    pub fn names_below(&self, suffix: &str) -> usize {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.keys().filter(|question| question.family == Family::V4 && question.name.ends_with(suffix)).count()
    }

    /// How often the IPv4 addresses of `name` were asked for.
    #[must_use]
    pub fn times(&self, name: &str) -> usize {
        let question = Question { name: name.to_owned(), family: Family::V4 };
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).get(&question).copied().unwrap_or(0)
    }

    fn serve_packets(&self, socket: &UdpSocket, decide: &Decide) {
        let mut packet = [0; PACKET_BYTES_MAX];
        while let Ok((length, from)) = socket.recv_from(&mut packet) {
            let Some(mut answer) = self.answer(&packet[..length], decide) else { continue };
            if answer.len() > PACKET_BYTES_MAX {
                answer.truncate(question_end(&answer).unwrap_or(HEADER_BYTES));
                answer[2] |= CUT_SHORT;
                answer[6..8].fill(0);
            }
            // Who has gone needs no answer.
            let _ = socket.send_to(&answer, from);
        }
    }

    fn serve_streams(&self, listener: &TcpListener, decide: &Decide) {
        while let Ok((stream, _)) = listener.accept() {
            // One that breaks off asks again.
            let _ = self.serve_stream(stream, decide);
        }
    }

    fn serve_stream(&self, mut stream: TcpStream, decide: &Decide) -> io::Result<()> {
        loop {
            let mut length = [0; 2];
            stream.read_exact(&mut length)?;
            let mut packet = vec![0; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut packet)?;
            let Some(answer) = self.answer(&packet, decide) else { continue };
            let length = u16::try_from(answer.len()).expect("an answer of a test fits").to_be_bytes();
            stream.write_all(&[&length, answer.as_slice()].concat())?;
        }
    }

    fn answer(&self, packet: &[u8], decide: &Decide) -> Option<Vec<u8>> {
        let end = question_end(packet)?;
        let mut header = packet[..end].to_vec();
        header[2] = ANSWERED[0];
        header[3] = ANSWERED[1];
        // One question, and nothing yet beside it.
        header[6..HEADER_BYTES].fill(0);
        let Some(question) = question(packet, end) else { return Some(header) };
        let before = {
            let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
            let count = asked.entry(question.clone()).or_default();
            *count += 1;
            *count - 1
        };
        match decide(&question, before) {
            Found::Silence => None,
            Found::NoSuchName => {
                header[3] |= NO_SUCH_NAME;
                Some(header)
            }
            Found::Records(records) => {
                let count = u16::try_from(records.len()).expect("an answer of a test fits").to_be_bytes();
                header[6..8].copy_from_slice(&count);
                header.extend(encoded(&question.name, &records));
                Some(header)
            }
        }
    }
}

fn spawn(work: impl FnOnce() + Send + 'static) {
    thread::Builder::new().name("names".to_owned()).spawn(work).expect("a thread can be started");
}

/// Where the question ends, and the records would begin.
fn question_end(packet: &[u8]) -> Option<usize> {
    let mut at = HEADER_BYTES;
    while *packet.get(at)? > 0 {
        at += 1 + usize::from(packet[at]);
    }
    (packet.len() >= at + 5).then_some(at + 5)
}

/// `None` where it asks for something else than addresses.
fn question(packet: &[u8], end: usize) -> Option<Question> {
    let (mut labels, mut at) = (Vec::new(), HEADER_BYTES);
    while packet[at] > 0 {
        let label = &packet[at + 1..at + 1 + usize::from(packet[at])];
        labels.push(String::from_utf8_lossy(label).into_owned());
        at += 1 + label.len();
    }
    let family = match u16::from_be_bytes([packet[end - 4], packet[end - 3]]) {
        KIND_A => Family::V4,
        KIND_AAAA => Family::V6,
        _ => return None,
    };
    Some(Question { name: labels.join("."), family })
}

fn encoded(name: &str, records: &[Record]) -> Vec<u8> {
    let (mut owner, mut bytes) = (encoded_name(name), Vec::new());
    // Most records belong to it: 2,000 of them fit no other way.
    let mut is_asked = true;
    for record in records {
        let (kind, data) = match record {
            Record::V4(address) => (KIND_A, address.octets().to_vec()),
            Record::V6(address) => (KIND_AAAA, address.octets().to_vec()),
            Record::Alias(target) => (KIND_CNAME, encoded_name(target)),
        };
        bytes.extend_from_slice(if is_asked { &ASKED_NAME } else { &owner });
        bytes.extend(kind.to_be_bytes());
        // Class `IN`, and a time to live of zero.
        bytes.extend([0, 1, 0, 0, 0, 0]);
        bytes.extend(u16::try_from(data.len()).expect("a short name").to_be_bytes());
        bytes.extend_from_slice(&data);
        if let Record::Alias(_) = record {
            (owner, is_asked) = (data, false);
        }
    }
    bytes
}

fn encoded_name(name: &str) -> Vec<u8> {
    let label = |label: &str| [&[u8::try_from(label.len()).expect("a short label")], label.as_bytes()].concat();
    name.split('.').flat_map(label).chain([0]).collect()
}
