//! Objects in key order: the order of `namespace/name` as bytes, which is the store's order and that of lists.
//!
//! They stand in chunks that are shared: a list takes the chunks of its span as they are, whatever their number, and
//! reads on in peace; a write copies the one chunk it changes, and only while a list still holds it. The objects'
//! headers are the keys, so no key text is kept beside them.

use std::cmp::Ordering;
use std::ops::Range;
use std::sync::Arc;

use tiphys_api::Object;

/// The most objects of a chunk: few enough to be copied by a write, many enough that a list of all is short.
const CHUNK: usize = 128;

/// Objects in key order.
#[derive(Debug, Default)]
pub struct Ordered {
    /// None is empty.
    chunks: Vec<Arc<Vec<Object>>>,
    len: usize,
}

/// Objects of one moment in key order: shared with the set they were taken from, or one's own.
#[derive(Clone, Debug, Default)]
pub struct Objects {
    runs: Vec<Run>,
    len: usize,
}

#[derive(Clone, Debug)]
struct Run {
    chunk: Arc<Vec<Object>>,
    part: Range<usize>,
}

/// The key of an object: namespace (empty for cluster-scoped) and name.
pub fn key_of(object: &Object) -> (&str, &str) {
    (&object.meta().namespace, &object.meta().name)
}

/// The order of `namespace/name` as bytes, found without joining them.
pub fn compare(a: (&str, &str), b: (&str, &str)) -> Ordering {
    if a.0 == b.0 {
        return a.1.cmp(b.1);
    }
    // Where one namespace is the beginning of the other, the slash after it decides.
    a.0.bytes().chain(std::iter::once(b'/')).cmp(b.0.bytes().chain(std::iter::once(b'/')))
}

impl Ordered {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.len
    }

    /// The object of a key.
    pub fn get(&self, namespace: &str, name: &str) -> Option<&Object> {
        let (chunk, place) = self.find((namespace, name));
        self.chunks.get(chunk)?.get(place.ok()?)
    }

    /// Puts an object to its place; returns the one that had it.
    pub fn replace(&mut self, object: Object) -> Option<Object> {
        let (chunk, place) = self.find(key_of(&object));
        let Some(objects) = self.chunks.get_mut(chunk).map(Arc::make_mut) else {
            self.chunks.push(Arc::new(vec![object]));
            self.len += 1;
            return None;
        };
        match place {
            Ok(at) => objects.get_mut(at).map(|old| std::mem::replace(old, object)),
            Err(at) => {
                objects.insert(at, object);
                self.len += 1;
                if objects.len() > CHUNK {
                    let rest = objects.split_off(CHUNK / 2);
                    self.chunks.insert(chunk + 1, Arc::new(rest));
                }
                None
            }
        }
    }

    /// Takes an object away.
    pub fn take(&mut self, key: (&str, &str)) -> Option<Object> {
        let (chunk, place) = self.find(key);
        let at = place.ok()?;
        let objects = Arc::make_mut(self.chunks.get_mut(chunk)?);
        let taken = objects.remove(at);
        if objects.is_empty() {
            self.chunks.remove(chunk);
        }
        self.len -= 1;
        Some(taken)
    }

    /// All from a key on (included; empty for the first), within a namespace unless it is empty.
    pub fn view(&self, start: (&str, &str), namespace: &str) -> Objects {
        let first = if start == ("", "") { (namespace, "") } else { start };
        let (chunk, from) = self.bound(first);
        let (last, to) = match namespace {
            "" => (self.chunks.len(), 0),
            // What follows the slash in the order of characters ends the namespace.
            namespace => self.bound((&format!("{namespace}0"), "")),
        };
        let runs = self.chunks.iter().enumerate().take(last + 1).skip(chunk).map(|(index, objects)| {
            let from = if index == chunk { from } else { 0 };
            let to = if index == last { to } else { objects.len() };
            Run { chunk: objects.clone(), part: from..to.max(from) }
        });
        Objects::of(runs.filter(|run| !run.part.is_empty()).collect())
    }

    /// The chunk that a key belongs into, and its place in that: where it is, or where it is to be.
    fn find(&self, key: (&str, &str)) -> (usize, Result<usize, usize>) {
        let before =
            |objects: &Arc<Vec<Object>>| objects.last().is_some_and(|o| compare(key_of(o), key).is_lt());
        // What comes after all others belongs into the last chunk.
        let chunk = self.chunks.partition_point(before).min(self.chunks.len().saturating_sub(1));
        let place = match self.chunks.get(chunk) {
            Some(objects) => objects.binary_search_by(|object| compare(key_of(object), key)),
            None => Err(0),
        };
        (chunk, place)
    }

    /// The place of the first object that is not before a key.
    fn bound(&self, key: (&str, &str)) -> (usize, usize) {
        let (chunk, Ok(at) | Err(at)) = self.find(key);
        (chunk, at)
    }
}

impl FromIterator<Object> for Ordered {
    fn from_iter<I: IntoIterator<Item = Object>>(objects: I) -> Self {
        let mut ordered = Self::default();
        for object in objects {
            ordered.replace(object);
        }
        ordered
    }
}

impl Objects {
    fn of(runs: Vec<Run>) -> Self {
        let len = runs.iter().map(|run| run.part.len()).sum();
        Self { runs, len }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The last one.
    pub fn last(&self) -> Option<&Object> {
        self.runs.last().and_then(|run| run.chunk.get(run.part.end.checked_sub(1)?))
    }

    /// Leaves only so many.
    pub fn truncate(&mut self, most: usize) {
        let mut left = most;
        for run in &mut self.runs {
            run.part.end = run.part.end.min(run.part.start + left);
            left -= run.part.len();
        }
        self.runs.retain(|run| !run.part.is_empty());
        self.len = self.len.min(most);
    }

    /// One after the other.
    pub fn iter(&self) -> impl Iterator<Item = &Object> {
        self.runs.iter().flat_map(|run| run.chunk.get(run.part.clone()).unwrap_or_default())
    }

    /// All of them, as one's own.
    pub fn to_vec(&self) -> Vec<Object> {
        let mut all = Vec::with_capacity(self.len);
        all.extend(self.iter().cloned());
        all
    }
}

impl IntoIterator for Objects {
    type Item = Object;
    type IntoIter = Box<dyn Iterator<Item = Object> + Send>;

    /// Lets go of each chunk once it was read.
    fn into_iter(self) -> Self::IntoIter {
        let objects = |run: Run| run.part.filter_map(move |at| run.chunk.get(at).cloned());
        Box::new(self.runs.into_iter().flat_map(objects))
    }
}

impl From<Vec<Object>> for Objects {
    fn from(objects: Vec<Object>) -> Self {
        let part = 0..objects.len();
        Self::of(vec![Run { chunk: Arc::new(objects), part }])
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn object(namespace: &str, name: &str) -> Object {
        let json = format!(r#"{{"metadata":{{"name":"{name}","namespace":"{namespace}"}}}}"#);
        Object::parse(json.into()).unwrap()
    }

    fn keys(objects: &Objects) -> Vec<String> {
        objects.iter().map(|o| o.meta().key()).collect()
    }

    #[test]
    fn order_is_that_of_the_keys_text() {
        let set: Ordered = [("a", "z"), ("a-b", "a"), ("a", "b"), ("b", "a")]
            .map(|(n, m)| object(n, m))
            .into_iter()
            .collect();
        assert_eq!(keys(&set.view(("", ""), "")), ["a-b/a", "a/b", "a/z", "b/a"]);
        assert_eq!(keys(&set.view(("", ""), "a")), ["a/b", "a/z"]);
        assert_eq!(keys(&set.view(("a", "c"), "")), ["a/z", "b/a"]);
        assert!(set.get("a", "b").is_some() && set.get("a", "c").is_none());
    }

    proptest! {
        /// Whatever is put and taken, the set is the sorted map; and what was viewed before stays as it was.
        #[test]
        fn a_set_is_a_sorted_map(steps in prop::collection::vec((0..4_u8, 0..500_u16, 0..4_u8), 0..900)) {
            let (mut set, mut map) = (Ordered::default(), BTreeMap::new());
            let mut seen = None;
            for (step, (space, number, action)) in steps.iter().enumerate() {
                let (space, name) = (["a", "a-b", "a0", "b"][usize::from(*space)], format!("n{number}"));
                let key = format!("{space}/{name}");
                match action {
                    0 => prop_assert_eq!(set.take((space, &name)).is_some(), map.remove(&key).is_some()),
                    _ => prop_assert_eq!(set.replace(object(space, &name)).is_some(), map.insert(key, ()).is_some()),
                }
                if step == steps.len() / 2 {
                    seen = Some((set.view(("", ""), ""), map.clone()));
                }
            }
            prop_assert_eq!(set.count(), map.len());
            for (view, map) in seen.into_iter().chain([(set.view(("", ""), ""), map.clone())]) {
                prop_assert_eq!(keys(&view), map.keys().cloned().collect::<Vec<_>>());
                prop_assert_eq!(view.len(), map.len());
                let owned: Vec<String> = view.into_iter().map(|o| o.meta().key()).collect();
                prop_assert_eq!(owned, map.into_keys().collect::<Vec<_>>());
            }
            for space in ["a", "a-b", "a0", "b", "c"] {
                let mut view = set.view((space, "n250"), space);
                let within = |key: &&String| key.starts_with(&format!("{space}/")) && **key >= format!("{space}/n250");
                let expected: Vec<String> = map.keys().filter(within).cloned().collect();
                prop_assert_eq!(&keys(&view), &expected);
                view.truncate(70);
                prop_assert_eq!(view.last().map(|o| o.meta().key()), expected.iter().take(70).next_back().cloned());
                prop_assert_eq!(view.len(), expected.len().min(70));
            }
        }
    }
}
