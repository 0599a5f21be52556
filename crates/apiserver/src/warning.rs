//! Warnings to whoever made the request that is being served: texts for its `Warning` headers.
//!
//! They belong to the request and not to its outcome, so that a refusal carries them as well. Therefore they go with the task,
//! as in kube-apiserver with the request's context: nothing in between has to hand them on, and where nobody listens (a
//! component of this process asked) they are dropped.

use std::cell::RefCell;

/// Warnings of one request that are kept: more than this many bytes help nobody.
const BYTES_MAX: usize = 4096;

tokio::task_local! {
    static WARNINGS: RefCell<Vec<String>>;
}

/// Warns who made the present request.
pub fn add(text: &str) {
    // Outside of a request nobody listens.
    let _ = WARNINGS.try_with(|warnings| {
        let mut warnings = warnings.borrow_mut();
        let room = BYTES_MAX.saturating_sub(warnings.iter().map(String::len).sum());
        if !text.is_empty() && text.len() <= room {
            warnings.push(text.to_owned());
        }
    });
}

/// Runs `serve`, which answers one request, and returns what was warned of meanwhile.
pub async fn collect<T>(serve: impl Future<Output = T>) -> (T, Vec<String>) {
    let served = async {
        let answer = serve.await;
        (answer, WARNINGS.with(RefCell::take))
    };
    WARNINGS.scope(RefCell::default(), served).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn warnings_belong_to_the_request() {
        add("nobody listens");
        let serve = |text: &'static str| async move {
            add(text);
            tokio::task::yield_now().await;
            add(&"x".repeat(BYTES_MAX));
            1
        };
        let (one, two) = tokio::join!(collect(serve("a")), collect(serve("b")));
        assert_eq!((one, two), ((1, vec!["a".to_owned()]), (1, vec!["b".to_owned()])));
    }
}
