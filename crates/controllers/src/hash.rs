//! Short stable names for templates, in the alphabet that Kubernetes uses.

use serde::Serialize;

/// Letters and digits without vowels and look-alikes, so that no word comes about.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// FNV-1a over the canonical JSON of a value and how often its name collided before, as text.
pub(crate) fn of(value: &impl Serialize, collisions: Option<i32>) -> String {
    // Through a tree, whose keys are sorted: the order of a struct's fields must not matter.
    let tree = tiphys_api::Value::of(value).unwrap_or_default();
    let mut hash: u32 = 0x811c_9dc5;
    let salt = collisions.map(i32::to_le_bytes);
    for byte in tree.to_string().bytes().chain(salt.into_iter().flatten()) {
        hash = (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    }
    encode(hash)
}

fn encode(hash: u32) -> String {
    hash.to_string().bytes().map(|digit| char::from(ALPHABET[usize::from(digit) % ALPHABET.len()])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tiphys_api::json;

    #[test]
    fn names_depend_on_content_only() {
        let a = of(&json!({"x": 1, "y": 2}), None);
        assert_eq!(a, of(&json!({"y": 2, "x": 1}), None));
        assert_ne!(a, of(&json!({"x": 1, "y": 3}), None));
        assert_ne!(a, of(&json!({"x": 1, "y": 2}), Some(1)));
        assert!(a.bytes().all(|letter| ALPHABET.contains(&letter)));
    }
}
