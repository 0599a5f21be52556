//! Names: generated ones, and whether given ones fit their kind.

use tiphys_api::Status;

/// What `generateName` may keep of its prefix.
const PREFIX_MAX: usize = 58;
const SUFFIX: usize = 5;
/// Kubernetes' letters: no vowels, so that no words arise, and nothing that looks like another.
const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// A name of this prefix and five random letters.
pub fn generate(prefix: &str) -> Result<String, Status> {
    let mut random = [0u8; SUFFIX];
    getrandom::fill(&mut random).map_err(Status::internal)?;
    let letter = |byte: &u8| LETTERS.get(usize::from(*byte) % LETTERS.len()).map_or('x', |b| char::from(*b));
    let kept = prefix.char_indices().take_while(|(at, c)| at + c.len_utf8() <= PREFIX_MAX).map(|(_, c)| c);
    Ok(kept.chain(random.iter().map(letter)).collect())
}

#[cfg(test)]
mod tests {
    #[test]
    fn generated_names_keep_the_prefix_and_the_limit() {
        let name = super::generate("web-").unwrap();
        assert!(name.starts_with("web-") && name.len() == 9);
        assert_eq!(super::generate(&"a".repeat(80)).unwrap().len(), 63);
    }
}
