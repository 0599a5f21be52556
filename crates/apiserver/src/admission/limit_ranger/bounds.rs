//! One entry of a limit range against what was asked for, in Kubernetes' words. Pure.

use tiphys_api::Value;
use tiphys_api::quantity::Quantity;
use tiphys_api::quota::Amounts;

/// What something asks for and may have.
pub(super) struct Asked {
    pub(super) requests: Amounts,
    pub(super) limits: Amounts,
}

/// The bounds of one entry.
pub(super) struct Bounds {
    min: Amounts,
    max: Amounts,
    ratio: Amounts,
}

impl Bounds {
    pub(super) fn read(limit: &Value) -> Self {
        let of = |key: &str| limit.get(key).map(Amounts::read).unwrap_or_default();
        Self { min: of("min"), max: of("max"), ratio: of("maxLimitRequestRatio") }
    }

    /// Judges a container or pod.
    pub(super) fn judge(&self, kind: &str, asked: &Asked, errors: &mut Vec<String>) {
        let of = |name: &str| (asked.requests.get(name), asked.limits.get(name));
        for (name, bound) in &self.min.0 {
            let (request, limit) = of(name);
            errors.extend(too_small(kind, name, *bound, request, limit));
        }
        for (name, bound) in &self.max.0 {
            let (request, limit) = of(name);
            errors.extend(too_large(kind, name, *bound, request, limit));
        }
        for (name, bound) in &self.ratio.0 {
            let (request, limit) = of(name);
            errors.extend(too_wide(kind, name, *bound, request, limit));
        }
    }

    /// Judges a claim, which has no limits.
    pub(super) fn judge_claim(&self, asked: &Asked, errors: &mut Vec<String>) {
        let kind = "PersistentVolumeClaim";
        for (name, bound) in &self.min.0 {
            errors.extend(too_small(kind, name, *bound, asked.requests.get(name), None));
        }
        for (name, bound) in &self.max.0 {
            let usage = format!("maximum {name} usage per {kind} is {bound}");
            match asked.requests.get(name) {
                None => errors.push(format!("{usage}.  No request is specified")),
                Some(request) if request > *bound => {
                    errors.push(format!("{usage}, but request is {request}"))
                }
                Some(_) => {}
            }
        }
    }
}

type Amount = Option<Quantity>;

fn too_small(kind: &str, name: &str, bound: Quantity, request: Amount, limit: Amount) -> Option<String> {
    let usage = format!("minimum {name} usage per {kind} is {bound}");
    match (request, limit) {
        (None, _) => Some(format!("{usage}.  No request is specified")),
        (Some(request), _) if request < bound => Some(format!("{usage}, but request is {request}")),
        (_, Some(limit)) if limit < bound => Some(format!("{usage}, but limit is {limit}")),
        _ => None,
    }
}

fn too_large(kind: &str, name: &str, bound: Quantity, request: Amount, limit: Amount) -> Option<String> {
    let usage = format!("maximum {name} usage per {kind} is {bound}");
    match (request, limit) {
        (_, None) => Some(format!("{usage}.  No limit is specified")),
        (_, Some(limit)) if limit > bound => Some(format!("{usage}, but limit is {limit}")),
        (Some(request), _) if request > bound => Some(format!("{usage}, but request is {request}")),
        _ => None,
    }
}

fn too_wide(kind: &str, name: &str, bound: Quantity, request: Amount, limit: Amount) -> Option<String> {
    let widest = format!("{name} max limit to request ratio per {kind} is {bound}");
    let given = |amount: Amount| amount.filter(|amount| !amount.is_zero());
    match (given(request), given(limit)) {
        (None, _) => Some(format!("{widest}, but no request is specified or request is 0")),
        (_, None) => Some(format!("{widest}, but no limit is specified or limit is 0")),
        (Some(request), Some(limit)) => {
            let ratio = limit.milli_value() as f64 / request.milli_value() as f64;
            let wide = ratio * 1000.0 > bound.milli_value() as f64;
            wide.then(|| format!("{widest}, but provided ratio is {ratio:.6}"))
        }
    }
}
