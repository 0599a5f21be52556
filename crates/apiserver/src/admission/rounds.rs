//! The rounds that mutating plugins make about one write.
//!
//! When a webhook or a policy has changed the object, all plugins look at it once more: what they fill in must be right for the
//! object as it is now. In this second round a webhook or policy is called again only if it wants to be, and only if the object
//! changed since.

use tiphys_api::Value;

/// Who is called, and may want to be called again: each plugin looks after its own.
#[derive(Clone, Copy, Debug)]
pub enum Who {
    /// Policies, by the names of policy, binding and parameter.
    Policies,
    /// Webhooks, by their uids.
    Webhooks,
}

/// What plugins must remember of the first round until the second.
#[derive(Debug, Default)]
pub struct Rounds {
    /// Whether this is the second.
    pub second: bool,
    /// Whether there shall be a second.
    pub wanted: bool,
    policies: Calls,
    webhooks: Calls,
}

#[derive(Debug, Default)]
struct Calls {
    /// Who was called and wants to be called again if the object changes after them.
    called: Vec<Box<str>>,
    /// Those of them after whom it did.
    due: Vec<Box<str>>,
    /// The object when the last of them had seen it.
    left: Option<Value>,
}

impl Rounds {
    fn calls_mut(&mut self, who: Who) -> &mut Calls {
        match who {
            Who::Policies => &mut self.policies,
            Who::Webhooks => &mut self.webhooks,
        }
    }

    /// They begin with an object: what others changed since they left it makes them due.
    pub fn enter(&mut self, who: Who, object: &Value) {
        let second = self.second;
        let calls = self.calls_mut(who);
        if second && calls.left.as_ref().is_some_and(|left| left != object) {
            calls.due.append(&mut calls.called);
        }
    }

    /// They are done with an object.
    pub fn leave(&mut self, who: Who, object: &Value) {
        self.calls_mut(who).left = Some(object.clone());
    }

    /// Whether one is called in this round.
    pub fn calls(&self, who: Who, name: &str) -> bool {
        let calls = match who {
            Who::Policies => &self.policies,
            Who::Webhooks => &self.webhooks,
        };
        !self.second || calls.due.iter().any(|due| due.as_ref() == name)
    }

    /// One was called. `changed`: the object is another now; `reinvoked`: it wants to be called again if others change it.
    pub fn called(&mut self, who: Who, name: &str, changed: bool, reinvoked: bool) {
        self.wanted |= changed;
        let calls = self.calls_mut(who);
        if changed {
            calls.due.append(&mut calls.called);
        }
        if reinvoked {
            calls.called.push(name.into());
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
        rounds.enter(Who::Webhooks, &json!(0));
        rounds.called(Who::Webhooks, "early", false, true);
        rounds.called(Who::Webhooks, "never", false, false);
        rounds.called(Who::Webhooks, "changes", true, true);
        rounds.leave(Who::Webhooks, &json!(1));
        assert!(rounds.wanted && rounds.calls(Who::Webhooks, "changes"));
        rounds.second = true;
        rounds.enter(Who::Webhooks, &json!(1));
        assert_eq!(
            ["early", "never", "changes"].map(|name| rounds.calls(Who::Webhooks, name)),
            [true, false, false]
        );
    }

    #[test]
    fn what_plugins_change_in_between_makes_all_due() {
        let mut rounds = Rounds::default();
        rounds.called(Who::Webhooks, "one", true, true);
        rounds.leave(Who::Webhooks, &json!(1));
        rounds.second = true;
        rounds.enter(Who::Webhooks, &json!(2));
        rounds.enter(Who::Policies, &json!(2));
        assert!(!rounds.calls(Who::Policies, "one"));
        assert!(rounds.calls(Who::Webhooks, "one") && !rounds.calls(Who::Webhooks, "other"));
    }
}
