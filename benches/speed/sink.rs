//! A server that takes pushes, hashes them and keeps nothing: what the hash alone costs on the same stream.
//!
//! Each connection has a thread, which hashes every piece as it comes.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use orlop::oci::{DigestAlgorithm, Hasher};

/// The argument that makes this program one.
pub(crate) const ARGUMENT: &str = "sink";

/// The size of reads.
const PIECE: usize = 256 << 10;

/// Serves until the process is ended.
pub(crate) fn serve() -> ! {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    println!("Listening on {}", listener.local_addr().expect("it is bound"));
    loop {
        let (stream, _) = listener.accept().expect("clients connect");
        thread::spawn(move || answer(stream));
    }
}

/// Answers the one request of a connection, as a registry would that likes everything.
fn answer(mut stream: TcpStream) {
    let mut reader = BufReader::with_capacity(PIECE, stream.try_clone().expect("a handle can be copied"));
    let mut line = String::new();
    let mut read_line = |reader: &mut BufReader<TcpStream>| {
        line.clear();
        reader.read_line(&mut line).expect("the client writes");
        line.trim_end().to_owned()
    };
    let request = read_line(&mut reader);
    let (mut length, mut is_chunked) = (0, false);
    loop {
        let header = read_line(&mut reader).to_ascii_lowercase();
        match header.split_once(": ") {
            None => break,
            Some(("content-length", value)) => length = value.parse().expect("a length"),
            Some(("transfer-encoding", _)) => is_chunked = true,
            Some(_) => {}
        }
    }
    let mut hasher = Hasher::new(DigestAlgorithm::CANONICAL);
    if is_chunked {
        loop {
            let size = u64::from_str_radix(&read_line(&mut reader), 16).expect("the size of a chunk");
            hash(&mut reader, size, &mut hasher);
            read_line(&mut reader);
            if size == 0 {
                break;
            }
        }
    } else {
        hash(&mut reader, length, &mut hasher);
    }
    let digest = hasher.finish();
    let status = if request.starts_with("PUT") { "201 Created" } else { "202 Accepted" };
    let answer = format!(
        "HTTP/1.1 {status}\r\nLocation: /v2/sink/blobs/uploads/1\r\nX-Digest: {digest}\r\nContent-Length: 0\r\n\r\n"
    );
    stream.write_all(answer.as_bytes()).expect("the client reads");
}

fn hash(reader: &mut BufReader<TcpStream>, length: u64, hasher: &mut Hasher) {
    let mut left = length;
    while left > 0 {
        let bytes = reader.fill_buf().expect("the client writes");
        assert!(!bytes.is_empty(), "the client closed the connection");
        let taken = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        hasher.update(&bytes[..taken]);
        reader.consume(taken);
        left -= taken as u64;
    }
}
