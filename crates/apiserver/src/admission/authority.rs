//! `authorizer` in expressions of webhooks and policies: whether who asks, or a service account, may do something else, too.
//!
//! `authorizer.group('apps').resource('deployments').namespace('shop').check('delete').allowed()`,
//! `authorizer.path('/healthz').check('get')`, `authorizer.serviceAccount('shop', 'robot')`, and
//! `authorizer.requestResource`, the resource of the request itself (the CEL authorizer library of Kubernetes). Every
//! step is a question with a little more in it; only `check` asks the server's [`Authorizer`].

use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;

use futures::FutureExt;
use tiphys_api::selector::{FieldSelector, LabelSelector};
use tiphys_api::validate::{dns1123_label, dns1123_subdomain};
use tiphys_cel::value::{Opaque, Result};
use tiphys_cel::{EvalError, Host, Value};

use super::Review;
use crate::auth::{Attributes, Authorizer, Decision, User};

/// What expressions call the authorizer, and the question about the request's own resource.
pub const AUTHORIZER: &str = "authorizer";
/// See [`AUTHORIZER`].
pub const REQUEST_RESOURCE: &str = "authorizer.requestResource";

/// Who asks for what, and who can say whether they may.
#[derive(Clone)]
pub struct Asker {
    authorizer: Arc<dyn Authorizer>,
    user: User,
    requested: Wish,
}

/// What somebody may do or not.
#[derive(Clone, Debug, Default)]
struct Wish {
    path: String,
    group: String,
    resource: String,
    subresource: String,
    namespace: String,
    name: String,
    /// Why no answer to it can be right.
    wrong: Option<String>,
}

impl Asker {
    /// Of a request.
    pub fn new(authorizer: Arc<dyn Authorizer>, review: &Review<'_>) -> Self {
        let requested = Wish {
            group: review.gvr.group.to_string(),
            resource: review.gvr.resource.to_string(),
            subresource: review.subresource.into(),
            namespace: review.namespace.into(),
            name: review.name.into(),
            ..Wish::default()
        };
        Self { authorizer, user: review.user.clone(), requested }
    }

    /// Of a user who asks for nothing.
    #[cfg(test)]
    pub fn of_user(authorizer: Arc<dyn Authorizer>, user: User) -> Self {
        Self { authorizer, user, requested: Wish { resource: "nothing".into(), ..Wish::default() } }
    }

    /// The value of one of the two names.
    pub fn named(&self, name: &str) -> Option<Value<'_>> {
        let (step, wish) = match name {
            AUTHORIZER => (Step::Authorizer, Wish::default()),
            REQUEST_RESOURCE => (Step::Resource, self.requested.clone()),
            _ => return None,
        };
        Some(
            Question { authorizer: &*self.authorizer, user: Cow::Borrowed(&self.user), step, wish }
                .into_value(),
        )
    }
}

/// How far a question is.
#[derive(Clone, Copy, Debug)]
enum Step {
    Authorizer,
    Path,
    Group,
    Resource,
}

impl Step {
    fn type_name(self) -> &'static str {
        match self {
            Self::Authorizer => "kubernetes.authorization.Authorizer",
            Self::Path => "kubernetes.authorization.PathCheck",
            Self::Group => "kubernetes.authorization.GroupCheck",
            Self::Resource => "kubernetes.authorization.ResourceCheck",
        }
    }
}

/// A question, as far as it was put.
#[derive(Clone)]
struct Question<'a> {
    authorizer: &'a dyn Authorizer,
    user: Cow<'a, User>,
    step: Step,
    wish: Wish,
}

impl std::fmt::Debug for Question<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} {:?} of {}", self.step, self.wish, self.user.name)
    }
}

impl<'a> Question<'a> {
    fn into_value(self) -> Value<'a> {
        Value::Opaque(Opaque::Host(Rc::new(self)))
    }

    /// The same with more in it.
    fn with(&self, step: Step, add: impl FnOnce(&mut Wish)) -> Result<'a> {
        let mut next = Self { step, ..self.clone() };
        add(&mut next.wish);
        Ok(next.into_value())
    }

    fn of_service_account(&self, namespace: &str, name: &str) -> Result<'a> {
        if !dns1123_label(namespace).is_empty() {
            return Err(EvalError::failed("Invalid service account namespace"));
        }
        if !dns1123_subdomain(name).is_empty() {
            return Err(EvalError::failed("Invalid service account name"));
        }
        let user = Cow::Owned(User::service_account(namespace, name, ""));
        Ok(Self { user, ..self.clone() }.into_value())
    }

    fn check(&self, verb: &str) -> Value<'a> {
        let Wish { path, group, resource, subresource, namespace, name, wrong } = &self.wish;
        let version = if path.is_empty() { "*" } else { "" };
        let attributes = Attributes {
            user: &self.user,
            verb,
            group,
            version,
            resource,
            subresource,
            namespace,
            name,
            path,
        };
        let answer = match wrong {
            Some(why) => Err(why.clone()),
            // They decide by what is in memory, and so at once.
            None => self.authorizer.authorize(&attributes).now_or_never().ok_or("no answer at once".into()),
        };
        Value::Opaque(Opaque::Host(Rc::new(Answer(answer))))
    }
}

fn not_empty(text: &str, what: &str) -> std::result::Result<String, EvalError> {
    if text.is_empty() {
        Err(EvalError::failed(format!("{what} must not be empty")))
    } else {
        Ok(text.into())
    }
}

impl<'a> Host<'a> for Question<'a> {
    fn type_name(&self) -> &'static str {
        self.step.type_name()
    }

    fn call(&self, name: &str, args: &[Value<'a>]) -> Result<'a> {
        let texts: Option<Vec<&str>> =
            args.iter().map(|arg| if let Value::String(text) = arg { Some(&**text) } else { None }).collect();
        let Some(texts) = texts else { return Err(EvalError::no_such_overload()) };
        match (self.step, name, texts.as_slice()) {
            (Step::Authorizer, "serviceAccount", [namespace, name]) => {
                self.of_service_account(namespace, name)
            }
            (Step::Authorizer, "path", [path]) => {
                let path = not_empty(path, "path")?;
                self.with(Step::Path, |wish| wish.path = path)
            }
            (Step::Authorizer, "group", [group]) => {
                self.with(Step::Group, |wish| wish.group = (*group).into())
            }
            (Step::Group, "resource", [resource]) => {
                let resource = not_empty(resource, "resource")?;
                self.with(Step::Resource, |wish| wish.resource = resource)
            }
            (Step::Resource, "subresource", [part]) => {
                self.with(self.step, |wish| wish.subresource = (*part).into())
            }
            (Step::Resource, "namespace", [space]) => {
                self.with(self.step, |wish| wish.namespace = (*space).into())
            }
            (Step::Resource, "name", [name]) => self.with(self.step, |wish| wish.name = (*name).into()),
            // No rule of ours goes by selectors: a wish for a part is judged as one for all.
            (Step::Resource, "fieldSelector", [text]) => {
                let wrong = FieldSelector::parse(text).err().map(|error| error.to_string());
                self.with(self.step, |wish| wish.wrong = wrong.or(wish.wrong.take()))
            }
            (Step::Resource, "labelSelector", [text]) => {
                let wrong = LabelSelector::parse(text).err().map(|error| error.to_string());
                self.with(self.step, |wish| wish.wrong = wrong.or(wish.wrong.take()))
            }
            (Step::Path | Step::Resource, "check", [verb]) => Ok(self.check(verb)),
            _ => Err(EvalError::no_such_overload()),
        }
    }
}

/// What the authorizer says, or why it cannot be asked.
#[derive(Debug)]
struct Answer(std::result::Result<Decision, String>);

impl<'a> Host<'a> for Answer {
    fn type_name(&self) -> &'static str {
        "kubernetes.authorization.Decision"
    }

    fn call(&self, name: &str, _args: &[Value<'a>]) -> Result<'a> {
        match (name, &self.0) {
            ("allowed", answer) => Ok(Value::Bool(*answer == Ok(Decision::Allow))),
            ("reason", Ok(Decision::NoOpinion(why))) => Ok(Value::text(why.as_str())),
            ("errored", answer) => Ok(Value::Bool(answer.is_err())),
            ("error", Err(why)) => Ok(Value::text(why.as_str())),
            ("reason" | "error", _) => Ok(Value::text("")),
            _ => Err(EvalError::no_such_overload()),
        }
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use tiphys_cel::{Bindings, Budget, Env, Program};

    use super::*;

    /// Allows what is written here, and tells what else it was asked.
    struct Written(&'static [&'static str]);

    #[async_trait]
    impl Authorizer for Written {
        async fn authorize(&self, a: &Attributes<'_>) -> Decision {
            let [user, verb, group, resource, part] =
                [&*a.user.name, a.verb, a.group, a.resource, a.subresource];
            let asked =
                format!("{user} {verb} {}{group}/{resource}/{part} {}/{}", a.path, a.namespace, a.name);
            if self.0.contains(&asked.as_str()) { Decision::Allow } else { Decision::NoOpinion(asked) }
        }
    }

    impl<'a> Bindings<'a> for &'a Asker {
        fn get(&self, name: &str) -> Option<Result<'a>> {
            self.named(name).map(Ok)
        }
    }

    fn value(expression: &str) -> std::result::Result<String, String> {
        let allowed = &[
            "jane get /healthz// /",
            "system:serviceaccount:shop:robot delete apps/deployments/scale shop/web",
        ];
        let user = User { name: "jane".into(), ..User::default() };
        let asker = Asker::of_user(Arc::new(Written(allowed)), user);
        let program =
            Program::compile(expression, &Env::new().with_authorizer()).map_err(|error| error.to_string())?;
        let value = program.evaluate(&&asker, &Budget::new(u64::MAX)).map_err(|error| error.to_string())?;
        match value {
            Value::Bool(value) => Ok(value.to_string()),
            Value::String(text) => Ok(text.to_string()),
            other => Err(format!("{other:?}")),
        }
    }

    #[test]
    fn a_question_is_put_step_by_step() {
        let scale =
            "group('apps').resource('deployments').subresource('scale').namespace('shop').name('web')";
        let told = |expression: &str| value(expression).unwrap();
        assert_eq!(told("authorizer.path('/healthz').check('get').allowed()"), "true");
        assert_eq!(told(&format!("authorizer.{scale}.check('delete').allowed()")), "false");
        let robot = "authorizer.serviceAccount('shop', 'robot')";
        assert_eq!(told(&format!("{robot}.{scale}.check('delete').allowed()")), "true");
        assert_eq!(
            told(&format!("authorizer.{scale}.check('get').reason()")),
            "jane get apps/deployments/scale shop/web"
        );
        assert_eq!(told("authorizer.requestResource.check('get').reason()"), "jane get /nothing/ /");
        assert_eq!(
            told("authorizer.requestResource.name('x').check('get').reason()"),
            "jane get /nothing/ /x"
        );
    }

    #[test]
    fn what_cannot_be_asked_says_why() {
        let pods = "authorizer.group('').resource('pods')";
        assert_eq!(value(&format!("{pods}.fieldSelector('a=b').check('list').errored()")).unwrap(), "false");
        assert_eq!(value(&format!("{pods}.labelSelector('a in').check('list').errored()")).unwrap(), "true");
        assert_eq!(value(&format!("{pods}.labelSelector('a in').check('list').allowed()")).unwrap(), "false");
        let told = value(&format!("{pods}.labelSelector('a in').check('list').error()")).unwrap();
        assert!(told.contains("unable to parse"), "{told}");
        for (expression, why) in [
            ("authorizer.path('').check('get').allowed()", "path must not be empty"),
            ("authorizer.group('').resource('').check('get').allowed()", "resource must not be empty"),
            (
                "authorizer.serviceAccount('a b', 'c').path('/').check('get').allowed()",
                "Invalid service account namespace",
            ),
            (
                "authorizer.serviceAccount('a', 'c d').path('/').check('get').allowed()",
                "Invalid service account name",
            ),
            ("authorizer.check('get')", "found no matching overload"),
        ] {
            let error = value(expression).unwrap_err();
            assert!(error.contains(why), "{expression}: {error}");
        }
    }
}
