//! The rounds that mutating plugins make about one write.
//!
//! When a webhook has changed the object, all plugins look at it once more: what they fill in must be right for the object as
//! it is now. In this second round a webhook is called again only if it wants to be, and only if the object changed since.

use tiphys_api::Value;

/// What plugins must remember of the first round until the second.
#[derive(Debug, Default)]
pub struct Rounds {
    /// Whether this is the second.
    pub second: bool,
    /// Whether there shall be a second.
    pub wanted: bool,
    /// Webhooks that were called and want to be called again if the object changes after them.
    called: Vec<Box<str>>,
    /// Those of them after which it did.
    due: Vec<Box<str>>,
    /// The object when the last webhook had seen it.
    left: Option<Value>,
}

impl Rounds {
    /// Webhooks begin with an object: what others changed since they left it makes them due.
    pub fn enter(&mut self, object: &Value) {
        if self.second && self.left.as_ref().is_some_and(|left| left != object) {
            self.due.append(&mut self.called);
        }
    }

    /// Webhooks are done with an object.
    pub fn leave(&mut self, object: &Value) {
        self.left = Some(object.clone());
    }

    /// Whether a webhook is called in this round.
    pub fn calls(&self, webhook: &str) -> bool {
        !self.second || self.due.iter().any(|due| due.as_ref() == webhook)
    }

    /// A webhook was called. `changed`: the object is another now; `reinvoked`: it wants to be called again if others
    /// change it.
    pub fn called(&mut self, webhook: &str, changed: bool, reinvoked: bool) {
        if changed {
            self.due.append(&mut self.called);
            self.wanted = true;
        }
        if reinvoked {
            self.called.push(webhook.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use tiphys_api::json;

    use super::*;

    #[test]
    fn a_webhook_is_called_again_after_a_later_change() {
        let mut rounds = Rounds::default();
        rounds.enter(&json!(0));
        rounds.called("early", false, true);
        rounds.called("never", false, false);
        rounds.called("changes", true, true);
        rounds.leave(&json!(1));
        assert!(rounds.wanted && rounds.calls("changes"));
        rounds.second = true;
        rounds.enter(&json!(1));
        assert_eq!(["early", "never", "changes"].map(|name| rounds.calls(name)), [true, false, false]);
    }

    #[test]
    fn what_plugins_change_in_between_makes_all_due() {
        let mut rounds = Rounds::default();
        rounds.called("one", true, true);
        rounds.leave(&json!(1));
        rounds.second = true;
        rounds.enter(&json!(2));
        assert!(rounds.calls("one") && !rounds.calls("other"));
    }
}
