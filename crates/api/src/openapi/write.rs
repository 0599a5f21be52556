//! A JSON text as it is written: objects and lists opened and closed, commas placed by themselves.
//!
//! The documents are megabytes; a tree of one would take ten times its text.

/// A JSON text in the making.
#[derive(Debug, Default)]
pub struct Json {
    text: String,
    comma: bool,
}

impl Json {
    fn separate(&mut self) {
        if self.comma {
            self.text.push(',');
        }
        self.comma = false;
    }

    fn open(&mut self, bracket: char) {
        self.separate();
        self.text.push(bracket);
    }

    fn close(&mut self, bracket: char) {
        self.text.push(bracket);
        self.comma = true;
    }

    /// `{…}`
    pub fn object(&mut self, body: impl FnOnce(&mut Self)) {
        self.open('{');
        body(self);
        self.close('}');
    }

    /// `[…]`
    pub fn list(&mut self, body: impl FnOnce(&mut Self)) {
        self.open('[');
        body(self);
        self.close(']');
    }

    /// `"name":`, before a value.
    pub fn key(&mut self, name: &str) -> &mut Self {
        self.string(name);
        self.text.push(':');
        self.comma = false;
        self
    }

    /// A string value.
    pub fn string(&mut self, text: &str) {
        let quoted = serde_json::to_string(text).unwrap_or_default();
        self.raw(&quoted);
    }

    /// A value that is JSON already.
    pub fn raw(&mut self, json: &str) {
        self.separate();
        self.text.push_str(json);
        self.comma = true;
    }

    /// `"name":"text"`
    pub fn pair(&mut self, name: &str, text: &str) {
        self.key(name).string(text);
    }

    /// `"name":…` with a value that is JSON already.
    pub fn raw_pair(&mut self, name: &str, json: &str) {
        self.key(name).raw(json);
    }

    /// `"name":["a","b"]`
    pub fn strings<'a>(&mut self, name: &str, texts: impl IntoIterator<Item = &'a str>) {
        self.key(name).list(|list| texts.into_iter().for_each(|text| list.string(text)));
    }

    /// `"description":"…"` with an escaped text; nothing for an empty one.
    pub fn description(&mut self, escaped: &str) {
        if !escaped.is_empty() {
            self.key("description").raw(&format!("\"{escaped}\""));
        }
    }

    /// The text.
    pub fn finish(self) -> String {
        self.text
    }
}
