//! What is fuzzed: everything that reads bytes or texts of clients, and the laws that must hold for what it read.
//!
//! - A target takes any bytes. It may refuse them; it must not panic, and what it accepts must obey its law: mostly
//!   that writing and reading again changes nothing.
//! - `cargo xtask fuzz` runs each under libFuzzer, guided by coverage, for a bounded number of inputs
//!   ([why so](../../docs/decisions/fuzzing.md)). The tests here run the corpus alone.
//! - `corpus/<target>` holds small seeds, and every input that once broke a law.

mod changes;
mod decoders;
mod expressions;
mod schemas;

/// Takes an input; panics where a law does not hold.
pub type Target = fn(&[u8]);

/// Every target by its name, which is also its folder in `corpus`.
pub const TARGETS: &[(&str, Target)] = &[
    ("json", decoders::json),
    ("yaml", decoders::yaml),
    ("protobuf", decoders::protobuf),
    ("cbor", decoders::cbor),
    ("object", decoders::object),
    ("label-selector", decoders::label_selector),
    ("field-selector", decoders::field_selector),
    ("quantity", decoders::quantity),
    ("jsonpath", decoders::jsonpath),
    ("cel", expressions::cel),
    ("json-patch", changes::json_patch),
    ("merge-patch", changes::merge_patch),
    ("strategic-patch", changes::strategic_patch),
    ("diff", changes::diff),
    ("apply", changes::apply),
    ("schema", schemas::schema),
];

/// The target of a name.
pub fn target(name: &str) -> Option<Target> {
    TARGETS.iter().find(|(known, _)| *known == name).map(|(_, run)| *run)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    #[test]
    fn every_target_takes_its_corpus() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
        for (name, run) in TARGETS {
            let seeds: Vec<_> = std::fs::read_dir(corpus.join(name)).unwrap().collect();
            assert!(!seeds.is_empty(), "{name} has no seeds");
            for seed in seeds {
                let path = seed.unwrap().path();
                println!("{}", path.display());
                run(&std::fs::read(path).unwrap());
            }
        }
        let folders: BTreeSet<String> = std::fs::read_dir(corpus)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        assert_eq!(folders, TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect());
    }
}
