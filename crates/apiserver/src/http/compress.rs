//! gzip for large answers, made as they are sent.
//!
//! Level 1: a list compresses about tenfold at any level, and the server's time is the scarcer. Streams are left alone
//! (each event must go out at once), and so are answers under kube-apiserver's threshold.

use std::io::Write;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::StreamExt;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, ETAG, HeaderValue, VARY};

use super::answer::Answer;
use super::body::{Body, BodyError};

/// The smallest body worth compressing, in bytes.
const THRESHOLD: usize = 128 * 1024;

/// Compresses the body if it is whole or in pieces, and large.
pub fn gzip(answer: Answer) -> Answer {
    let (mut head, body) = answer.into_parts();
    let body = match body {
        _ if head.headers.contains_key(CONTENT_ENCODING) => return Answer::from_parts(head, body),
        Body::Full(bytes) if bytes.len() >= THRESHOLD => packed([bytes].into_iter()),
        // What does not fit one chunk is large enough.
        Body::Pieces(mut pieces) => packed(std::iter::from_fn(move || pieces.next_chunk())),
        small_or_stream => return Answer::from_parts(head, small_or_stream),
    };
    head.headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    head.headers.append(VARY, HeaderValue::from_static("Accept-Encoding"));
    head.headers.remove(CONTENT_LENGTH);
    // The compressed form is another representation; only a weak tag may name both.
    if let Some(tag) =
        head.headers.get(ETAG).and_then(|tag| tag.to_str().ok()).filter(|tag| tag.starts_with('"'))
    {
        let weak = HeaderValue::from_str(&format!("W/{tag}"));
        weak.into_iter().for_each(|weak| drop(head.headers.insert(ETAG, weak)));
    }
    Answer::from_parts(head, body)
}

fn packed(chunks: impl Iterator<Item = Bytes> + Send + 'static) -> Body {
    let encoder = GzEncoder::new(Vec::with_capacity(64 * 1024), Compression::fast());
    let packed = futures::stream::unfold(Some((chunks, encoder)), |state| async move {
        let (mut chunks, mut encoder) = state?;
        loop {
            match chunks.next() {
                Some(chunk) => match encoder.write_all(&chunk) {
                    Ok(()) if encoder.get_ref().len() < 32 * 1024 => (),
                    Ok(()) => {
                        let ready = Bytes::from(std::mem::take(encoder.get_mut()));
                        return Some((Ok(ready), Some((chunks, encoder))));
                    }
                    Err(error) => return Some((Err(BodyError::from(error)), None)),
                },
                None => return Some((encoder.finish().map(Bytes::from).map_err(BodyError::from), None)),
            }
            tokio::task::consume_budget().await;
        }
    });
    Body::Stream(packed.boxed())
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use http::StatusCode;
    use http_body_util::BodyExt;

    use super::super::answer::with_body;
    use super::*;

    #[tokio::test]
    async fn large_bodies_shrink_and_come_back() {
        let text: Vec<u8> = (0..100_000u32).flat_map(|n| n.to_string().into_bytes()).collect();
        let answer = gzip(with_body(StatusCode::OK, "application/json", text.clone()));
        assert_eq!(answer.headers()[CONTENT_ENCODING], "gzip");
        let packed = answer.into_body().collect().await.unwrap().to_bytes();
        let mut back = Vec::new();
        flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut back).unwrap();
        assert!(back == text && packed.len() < text.len());
    }

    #[test]
    fn small_bodies_and_streams_stay() {
        let answer = gzip(with_body(StatusCode::OK, "application/json", vec![0; 1000]));
        assert!(!answer.headers().contains_key(CONTENT_ENCODING));
    }
}
