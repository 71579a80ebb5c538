use super::request::Request;
use super::*;

/// Whole, and byte by byte: the verdict must not depend on how bytes arrive.
fn is_clear(text: &str) -> bool {
    let whole = Framing::<Request>::default().follow(text.as_bytes()).is_ok();
    let mut framing = Framing::<Request>::default();
    let single = text.as_bytes().iter().all(|byte| framing.follow(std::slice::from_ref(byte)).is_ok());
    assert_eq!(whole, single, "{text:?}");
    whole
}

#[test]
fn takes_what_every_server_reads_alike() {
    for text in [
        "GET / HTTP/1.1\r\nhost: a\r\n\r\nGET /b HTTP/1.1\r\nhost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\na\nb\rcPOST / HTTP/1.1\r\ncontent-length: 0\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\n0123456789GET / HTTP/1.1\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0005\r\nabcde\r\n0000\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n5;a=b\r\na\nb\rc\r\n0\r\nx: y\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        "GET / HTTP/1.1\r\nupgrade: websocket\r\nconnection: keep-alive, Upgrade\r\n\r\n\0\n\n anything",
    ] {
        assert!(is_clear(text), "{text:?}");
    }
}

#[test]
fn refuses_what_two_servers_may_read_differently() {
    for lines in [
        "transfer-encoding: chunked\r\ncontent-length: 5",
        "content-length: 5\r\ntransfer-encoding: chunked",
        "content-length: 5\r\ncontent-length: 5",
        "content-length: 5, 5",
        "content-length: 05",
        "content-length: 00",
        "content-length: 0000010",
        "content-length: +5",
        "content-length: -1",
        "content-length: 0x5",
        "content-length: ",
        "content-length: 18446744073709551616",
        "transfer-encoding: xchunked",
        "transfer-encoding: chunked, identity",
        "transfer-encoding: gzip, chunked",
        "transfer-encoding: chunked\r\ntransfer-encoding: chunked",
        "transfer-encoding : chunked",
        "transfer-encoding\t: chunked",
        "x: a\r\n folded",
        "x: a\nb: c",
        "x: a\rb: c",
        "no colon",
        ": no name",
    ] {
        assert!(!is_clear(&format!("POST / HTTP/1.1\r\n{lines}\r\n\r\n")), "{lines:?}");
    }
    for text in [
        "\r\nGET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\n\n",
        "POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n5\nabcde\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n5\r\nabcdeX\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n5\r\nabcde\n",
        "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n-1\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n5;a\n\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx: y\n\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx : y\r\n\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n folded\r\n\r\n",
        "GET /a#b HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nupgrade: websocket\r\n\r\nGET / HTTP/1.1\n\n",
        // Two wishes: only one reader would have seen the second.
        "GET / HTTP/1.1\r\nupgrade: h2c\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\nGET / HTTP/1.1\n\n",
        "GET / HTTP/1.1\r\nupgrade: websocket\r\nconnection: upgrade\r\ncontent-length: 1\r\n\r\na",
        "GET / HTTP/1.1\r\nupgrade: websocket\r\nconnection: upgrade\r\ntransfer-encoding: chunked\r\n\r\n0\r\n",
    ] {
        assert!(!is_clear(text), "{text:?}");
    }
    let long =
        format!("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n1;{}\r\na\r\n", "x".repeat(4096));
    assert!(!is_clear(&long));
}

/// The framing of responses to requests with these methods, on one connection.
fn responds(heads: &[bool], text: &str) -> bool {
    let verdict = |chunk: usize| {
        let turn = Turn::default();
        let mut framing = Framing::of(turn.clone());
        let mut asked = heads.iter();
        text.as_bytes().chunks(chunk).all(|bytes| {
            if framing.state == State::Silent
                && let Some(is_head) = asked.next()
            {
                turn.ask(*is_head);
            }
            framing.follow(bytes).is_ok()
        })
    };
    let single = verdict(1);
    // Whole, all but one request is asked for while bytes are there already: only one can be compared.
    if heads.len() == 1 {
        assert_eq!(verdict(usize::MAX), single, "{text:?}");
    }
    single
}

#[test]
fn takes_responses_that_every_client_reads_alike() {
    let get: &[bool] = &[false];
    for (heads, text) in [
        (get, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"),
        (get, "HTTP/1.1 200\r\ntransfer-encoding: chunked\r\n\r\n2;a\r\nok\r\n0\r\nx: y\r\n\r\n"),
        (get, "HTTP/1.1 200 OK\r\n\r\nuntil the end\n\r\0"),
        (get, "HTTP/1.0 200 OK\r\n\r\nuntil the end"),
        (get, "HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"),
        (get, "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\r\n\0anything\n"),
        (get, "HTTP/1.1 204 No Content\r\n\r\n"),
        (get, "HTTP/1.1 304 Not Modified\r\ncontent-length: 99\r\n\r\n"),
        (&[true], "HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n"),
        (
            &[true, false],
            "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\na",
        ),
    ] {
        assert!(responds(heads, text), "{text:?}");
    }
}

#[test]
fn refuses_responses_that_two_clients_may_read_differently() {
    for head in [
        "200 OK\r\ncontent-length: 2\r\ncontent-length: 2",
        "200 OK\r\ncontent-length: 2, 2",
        "200 OK\r\ncontent-length: +2",
        "200 OK\r\ncontent-length: 02",
        "200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked",
        "200 OK\r\ntransfer-encoding: gzip, chunked",
        "200 OK\r\ntransfer-encoding: identity",
        "200 OK\r\nx: a\r\n folded",
        "200 OK\r\nx : a",
        "200 OK\r\nx: a\nb: c",
        "200 OK\r\nx: a\rb: c",
        "20 OK",
        "2000 OK",
        "200OK",
        "",
    ] {
        assert!(!responds(&[false], &format!("HTTP/1.1 {head}\r\n\r\n")), "{head:?}");
    }
    let interim = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(17);
    for text in [
        "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/2.0 200 OK\r\n\r\n",
        "\r\nHTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\naHTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\na\r\n0\r\n\r\n",
        &interim,
    ] {
        assert!(!responds(&[false], text), "{text:?}");
    }
    assert!(!responds(&[true], "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\na"));
    // Nobody asked.
    assert!(!responds(&[], "HTTP/1.1 200 OK\r\n\r\n"));
}
