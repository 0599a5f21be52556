//! `continue` tokens: where the next page starts, and at which revision the list stays. Kubernetes' own form.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use tiphys_api::{Object, Status};

/// A continue token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    v: String,
    /// Revision of the list; negative to go on at the present one.
    #[serde(rename = "rv")]
    pub revision: i64,
    /// Key after which it goes on: `namespace/name` or `name`, then a zero.
    start: String,
}

const VERSION: &str = "meta.k8s.io/v1";

impl Token {
    /// Goes on after an object.
    pub fn after(revision: u64, last: &Object) -> Self {
        let revision = i64::try_from(revision).unwrap_or(-1);
        Self { v: VERSION.into(), revision, start: format!("{}\0", last.meta().key()) }
    }

    /// The text for `metadata.continue`.
    pub fn encode(&self) -> String {
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).unwrap_or_default())
    }

    /// Reads a token that a client sent back.
    pub fn decode(text: &str) -> Result<Self, Status> {
        let bad = |why: String| Status::bad_request(format!("continue key is not valid: {why}"));
        let bytes = URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).map_err(|e| bad(e.to_string()))?;
        let token: Self = serde_json::from_slice(&bytes).map_err(|e| bad(e.to_string()))?;
        if token.v != VERSION {
            return Err(bad(format!("server does not recognize this encoded version {:?}", token.v)));
        }
        match token.start.is_empty() || token.revision == 0 {
            true => {
                Err(bad("incorrect encoded start resourceVersion or key (version meta.k8s.io/v1)".into()))
            }
            false => Ok(token),
        }
    }

    /// The first key (namespace, name) of the page.
    pub fn start(&self, namespaced: bool) -> (String, String) {
        match self.start.split_once('/') {
            Some((namespace, name)) if namespaced => (namespace.into(), name.into()),
            _ => (String::new(), self.start.clone()),
        }
    }
}

/// 410 for a page whose revision is gone, with a token that goes on at the present revision.
pub fn expired(start: &(String, String)) -> Status {
    let key = match start.0.as_str() {
        "" => start.1.clone(),
        namespace => format!("{namespace}/{}", start.1),
    };
    let token = Token { v: VERSION.into(), revision: -1, start: key };
    let mut status = Status::expired(
        "The provided continue parameter is too old to display a consistent list result. You can start a new list \
         without the continue parameter, or use the continue token in this response to retrieve the remainder of the \
         results. Continuing with the provided token results in an inconsistent list - objects that were created, \
         modified, or deleted between the time the first chunk was returned and now may show up in the list.",
    );
    status.metadata.continue_token = token.encode();
    status
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_token_reads_back() {
        let object =
            Object::parse(br#"{"metadata":{"name":"a","namespace":"n"}}"#.as_slice().into()).unwrap();
        let token = Token::decode(&Token::after(7, &object).encode()).unwrap();
        assert_eq!((token.revision, token.start(true)), (7, ("n".into(), "a\0".into())));
        for wrong in ["", "%", "AAAA", "e30"] {
            assert_eq!(Token::decode(wrong).unwrap_err().code, 400, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_token_or_refused(text in any::<String>(), revision in any::<i64>(), start in ".*", v in "meta.k8s.io/v[12]") {
            if let Err(status) = Token::decode(&text) {
                prop_assert_eq!(status.code, 400);
            }
            let token = Token { v, revision, start };
            match Token::decode(&token.encode()) {
                Ok(again) => {
                    prop_assert_eq!(&again, &token);
                    let _ = (again.start(true), again.start(false));
                }
                Err(status) => {
                    prop_assert_eq!(status.code, 400);
                    prop_assert!(token.v != VERSION || revision == 0 || token.start.is_empty());
                }
            }
        }
    }
}
