//! Responses: the one place where status codes, bodies and headers are put together.
//!
//! Every failure carries a `metav1.Status` body whose code is the HTTP code. Headers that every answer has
//! (`Audit-Id`, `Cache-Control`) are added by [`super::handle`].

use http::header::{ALLOW, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WARNING};
use http::{Response, StatusCode};
use tiphys_api::{Object, Status, Value};

use super::body::Body;
use super::encode;
use super::negotiate::{Encoding, MediaType};

/// A response under construction.
pub type Answer = Response<Body>;

/// A response with a body.
pub fn with_body(code: StatusCode, content_type: &'static str, body: impl Into<Body>) -> Answer {
    let mut answer = Response::new(body.into());
    *answer.status_mut() = code;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}

/// Plain text, as health checks answer.
pub fn text(code: StatusCode, text: impl Into<String>) -> Answer {
    with_body(code, "text/plain; charset=utf-8", text.into().into_bytes())
}

/// A failure (or the success of a deletion) in the encoding that the client takes.
pub fn status(status: &Status, encoding: Encoding) -> Answer {
    let code = match status.code {
        0 => StatusCode::OK,
        code => StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
    };
    let media = MediaType { encoding, ..MediaType::default() };
    let json = status.to_json();
    let body = match encoding {
        // All others need a tree; a Status is small.
        Encoding::PrettyJson | Encoding::Yaml | Encoding::Protobuf | Encoding::Cbor => {
            match Value::from_json(&json) {
                Ok(tree) => encode::tree(&tree, encoding).unwrap_or(json.into()),
                Err(_) => json.into(),
            }
        }
        Encoding::Json => with_newline(json).into(),
    };
    let mut answer = with_body(code, media.content_type(), body);
    add_status_headers(&mut answer, status);
    answer
}

fn add_status_headers(answer: &mut Answer, status: &Status) {
    let retry = status.details.as_ref().map(|details| details.retry_after_seconds).unwrap_or_default();
    if retry > 0 {
        answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from(retry));
    }
    if status.code == 405 {
        answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, POST, PUT, PATCH, DELETE"));
    }
}

/// One object in the agreed form.
pub fn object(code: StatusCode, object: &Object, media: MediaType) -> Result<Answer, Status> {
    Ok(with_body(code, media.content_type(), encode::object(object, media.encoding)?))
}

/// A tree in the agreed encoding, as discovery documents.
pub fn tree(value: &Value, media: MediaType) -> Result<Answer, Status> {
    Ok(with_body(StatusCode::OK, media.content_type(), encode::tree(value, media.encoding)?))
}

/// Adds `Warning` headers, each text once.
pub fn warn(answer: &mut Answer, warnings: &[String]) {
    for (at, text) in warnings.iter().enumerate() {
        let seen = warnings.iter().take(at).any(|earlier| earlier == text);
        if let (false, Ok(value)) = (seen, HeaderValue::from_str(&warning_value(text))) {
            answer.headers_mut().append(WARNING, value);
        }
    }
}

/// `299 - "text"`: control characters dropped, quotes and backslashes escaped, as RFC 7234 has it.
fn warning_value(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 10);
    for c in text.chars().filter(|c| !c.is_control()) {
        if matches!(c, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    format!("299 - \"{quoted}\"")
}

/// Sets a header whose value is known to fit; others are left out.
pub fn set(answer: &mut Answer, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        answer.headers_mut().insert(name, value);
    }
}

fn with_newline(mut json: Vec<u8>) -> Vec<u8> {
    json.push(b'\n');
    json
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_carry_their_code_and_when_to_retry() {
        let answer = status(&Status::too_many_requests("slow down", 7), Encoding::Json);
        assert_eq!((answer.status().as_u16(), &answer.headers()[RETRY_AFTER]), (429, &HeaderValue::from(7)));
        let answer = status(&Status::failure(9999, "x", "y"), Encoding::Yaml);
        assert_eq!(
            (answer.status().as_u16(), answer.headers()[CONTENT_TYPE].as_bytes()),
            (500, &b"application/yaml"[..])
        );
    }

    #[test]
    fn warnings_are_quoted_and_not_repeated() {
        let mut answer = text(StatusCode::OK, "");
        warn(&mut answer, &["unknown field \"spec.x\"".into(), "b\n".into(), "b\n".into(), "b\n".into()]);
        let seen: Vec<_> = answer.headers().get_all(WARNING).iter().map(|v| v.to_str().unwrap()).collect();
        assert_eq!(seen, ["299 - \"unknown field \\\"spec.x\\\"\"", "299 - \"b\""]);
    }
}
