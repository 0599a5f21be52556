//! The hand-written part of the table: what the OpenAPI document does not say about resources.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::table::{ParseError, RawResource};
use super::{Resource, Schema};

/// Parsed `names.txt`.
#[derive(Debug, Default)]
pub struct Names {
    groups: Vec<String>,
    stored: HashMap<String, String>,
    returned: HashSet<String>,
    resources: HashMap<String, Extra>,
}

#[derive(Debug, Default)]
struct Extra {
    short_names: Box<[Box<str>]>,
    categories: Box<[Box<str>]>,
    field_labels: Box<[Box<str>]>,
    field_paths: Box<[Box<str>]>,
}

impl Names {
    /// Reads the text; its own head describes the form.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let mut names = Self::default();
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            names.line(line).ok_or_else(|| ParseError(line.to_owned()))?;
        }
        Ok(names)
    }

    fn line(&mut self, line: &str) -> Option<()> {
        let mut words = line.split(' ');
        match words.next()? {
            "group" => {
                self.groups.extend(words.map(|word| if word == "core" { "" } else { word }.to_owned()))
            }
            "stored" => {
                self.stored.insert(words.next()?.to_owned(), words.next()?.to_owned());
            }
            "returned" => self.returned.extend(words.map(str::to_owned)),
            "resource" => {
                let name = words.next()?.to_owned();
                let mut extra = Extra::default();
                words.try_for_each(|word| extra.word(word))?;
                self.resources.insert(name, extra);
            }
            _ => return None,
        }
        Some(())
    }

    /// Place of a group in discovery.
    pub fn group_rank(&self, group: &str) -> usize {
        self.groups.iter().position(|g| g == group).unwrap_or(self.groups.len())
    }

    /// The group-resource under which objects of this one are kept.
    pub fn stored_as<'a>(&'a self, group_resource: &'a str) -> &'a str {
        self.stored.get(group_resource).map_or(group_resource, String::as_str)
    }

    /// A resource with both parts of its facts.
    pub fn complete(&self, raw: RawResource, schema: &Arc<Schema>) -> Resource {
        let nothing = Extra::default();
        let own = raw.gvr.group_resource();
        let extra = self.resources.get(&own).unwrap_or(&nothing);
        Resource {
            custom: None,
            singular: raw.gvk.kind.to_lowercase().into(),
            gvr: raw.gvr,
            gvk: raw.gvk,
            list_kind: raw.list_kind,
            short_names: extra.short_names.clone(),
            categories: extra.categories.clone(),
            namespaced: raw.namespaced,
            verbs: raw.verbs,
            subresources: raw.subresources.into(),
            field_labels: extra.field_labels.clone(),
            field_paths: extra.field_paths.clone(),
            returned: self.returned.contains(&own),
            object: raw.object,
            schema: Arc::clone(schema),
        }
    }

    /// Group-resources that the file describes.
    #[cfg(test)]
    pub fn described(&self) -> impl Iterator<Item = &str> {
        self.resources.keys().chain(&self.returned).map(String::as_str)
    }
}

impl Extra {
    fn word(&mut self, word: &str) -> Option<()> {
        let (key, list) = word.split_once('=')?;
        let items = list.split(',');
        match key {
            "short" => self.short_names = items.map(Into::into).collect(),
            "in" => self.categories = items.map(Into::into).collect(),
            "fields" => {
                let pairs = items.map(|item| item.split_once('@').unwrap_or((item, item)));
                let (labels, paths): (Vec<Box<str>>, Vec<Box<str>>) =
                    pairs.map(|(label, path)| (Box::from(label), Box::from(path))).unzip();
                (self.field_labels, self.field_paths) = (labels.into(), paths.into());
            }
            _ => return None,
        }
        Some(())
    }
}
