//! get and list: the cache's own objects, at the revision asked for.

use std::sync::Arc;

use tiphys_api::schema::Resource;
use tiphys_api::{Object, Status};

use super::page::{self, Token};
use super::request::{List, ListParams, Request};
use super::version::{self, Match};
use super::{Registry, convert};
use crate::cache::{Cache, Objects, Selection, Span, TooOld};

/// Where a list starts and at which revision it stays.
struct Page {
    start: (String, String),
    /// 0 for the present.
    revision: u64,
}

impl Registry {
    /// Reads one object or its subresource.
    pub async fn get(&self, request: &Request<'_>, resource_version: &str) -> Result<Object, Status> {
        let cache = self.cache(request.resource)?;
        match version::parse(resource_version)? {
            None => drop(self.caches().catch_up().await?),
            Some(revision) => self.caches().reach(revision).await?,
        }
        let object = cache.get(request.namespace, request.name);
        let object = object.ok_or_else(|| Status::not_found(&request.resource.gvr, request.name))?;
        match request.subresource {
            "scale" => {
                let object = self.converter.object(request.resource, &cache.resource, object).await?;
                super::scale::of(request, &object)
            }
            "" | "status" | "approval" | "ephemeralcontainers" | "resize" => {
                self.converter.object(request.resource, &cache.resource, object).await
            }
            other if request.resource.subresource(other).is_some() => Err(Status::not_implemented(other)),
            _ => Err(Status::no_such_path()),
        }
    }

    /// Reads a collection.
    pub async fn list(&self, request: &Request<'_>, params: &ListParams) -> Result<List, Status> {
        let cache = self.cache(request.resource)?;
        let selection = Selection::parse(
            request.resource,
            request.namespace,
            request.name,
            &params.labels,
            &params.fields,
        )?;
        let page = self.page(&cache, params).await?;
        let limit = match params.resource_version == "0" && params.continue_token.is_empty() {
            // The cache answers "any version" whole, as kube-apiserver's does.
            true => 0,
            false => params.limit,
        };
        // Read before the objects: they are of this revision or a later one.
        let reached = self.caches().revision();
        let mut list = match collect(&cache, &selection, &page, limit, reached) {
            Ok(list) => list,
            Err(TooOld { .. }) => self.read_history(&cache, &selection, &page, limit).await?,
        };
        list.items = self.convert_all(request.resource, &cache, list.items).await?;
        Ok(list)
    }

    async fn convert_all(
        &self,
        to: &Arc<Resource>,
        cache: &Cache,
        items: Objects,
    ) -> Result<Objects, Status> {
        if convert::is_same(to, &cache.resource) && !convert::is_mixed(&cache.resource) {
            return Ok(items);
        }
        let converted = self.converter.objects(to, &cache.resource, items.to_vec()).await?;
        Ok(converted.into())
    }

    /// Waits for what the request needs and says where to read.
    async fn page(&self, cache: &Cache, params: &ListParams) -> Result<Page, Status> {
        let matching = version::list_match(&params.resource_version, &params.resource_version_match)?;
        if !params.continue_token.is_empty() {
            return self.next_page(cache, params).await;
        }
        let revision = match matching {
            Match::Newest => {
                self.caches().catch_up().await?;
                0
            }
            Match::NotOlder(revision) => {
                self.caches().reach(revision).await?;
                0
            }
            Match::Exact(revision) => {
                self.caches().reach(revision).await?;
                revision
            }
        };
        Ok(Page { start: Default::default(), revision })
    }

    async fn next_page(&self, cache: &Cache, params: &ListParams) -> Result<Page, Status> {
        if !params.resource_version.is_empty() && params.resource_version != "0" {
            return Err(Status::bad_request(
                "specifying resource version is not allowed when using continue",
            ));
        }
        let token = Token::decode(&params.continue_token)?;
        let start = token.start(cache.resource.namespaced);
        if token.revision < 0 {
            self.caches().catch_up().await?;
            return Ok(Page { start, revision: 0 });
        }
        let revision = token.revision.unsigned_abs();
        self.caches().reach(revision).await?;
        Ok(Page { start, revision })
    }

    /// Reads a state that the ring no longer reaches from the store's history.
    async fn read_history(
        &self,
        cache: &Cache,
        selection: &Selection,
        page: &Page,
        limit: u64,
    ) -> Result<List, Status> {
        use tiphys_store::{Error, Range};
        let range = Range::prefix(cache.key(&selection.namespace, "")).at(page.revision);
        let found = match self.caches().store().range(range).await {
            Ok(found) => found,
            Err(Error::Compacted { .. }) if page.start == Default::default() => {
                return Err(Status::expired("The resourceVersion for the provided list is too old."));
            }
            Err(Error::Compacted { .. }) => return Err(page::expired(&page.start)),
            Err(other) => return Err(super::commit::store_error(other)),
        };
        let mut taker = Taker::new(selection, limit);
        for kv in &found.items {
            let object = cache.object(&kv.value, kv.mod_revision).map_err(Status::internal)?;
            let key = (object.meta().namespace.as_ref(), object.meta().name.as_ref());
            let start = (page.start.0.as_str(), page.start.1.as_str());
            if crate::cache::order::compare(key, start).is_ge() && !taker.take(&object) {
                break;
            }
        }
        Ok(taker.finish(page.revision))
    }
}

fn collect(
    cache: &Cache,
    selection: &Selection,
    page: &Page,
    limit: u64,
    reached: u64,
) -> Result<List, TooOld> {
    let start = (page.start.0.as_str(), page.start.1.as_str());
    let span = Span { namespace: &selection.namespace, start, revision: page.revision };
    if !selection.name.is_empty()
        && page.revision == 0
        && (!span.namespace.is_empty() || !cache.resource.namespaced)
    {
        let item = cache.get(span.namespace, &selection.name).filter(|o| selection.matches(o.meta()));
        let revision = item.as_ref().map_or(0, |o| o.meta().resource_version).max(reached);
        let items = item.into_iter().collect::<Vec<_>>().into();
        return Ok(List { items, resource_version: revision, ..List::default() });
    }
    let own = |last: u64| if page.revision == 0 { last.max(reached) } else { page.revision };
    if selection.is_plain()
        && selection.name.is_empty()
        && let Some((objects, last)) = cache.view(span)
    {
        return Ok(first_of(objects, limit, own(last)));
    }
    let mut taker = Taker::new(selection, limit);
    let last = cache.scan(span, |object| taker.take(object))?;
    Ok(taker.finish(own(last)))
}

/// The first of all objects up to the limit.
fn first_of(mut items: Objects, limit: u64, revision: u64) -> List {
    let all = items.len();
    if limit > 0 {
        items.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    }
    let more = (all - items.len()) as u64;
    let next = items.last().filter(|_| more > 0).map(|last| Token::after(revision, last).encode());
    let remaining = (more > 0).then_some(more);
    List { items, resource_version: revision, continue_token: next.unwrap_or_default(), remaining }
}

/// Takes selected objects up to the limit, then only counts the rest (if that is cheap and asked for).
struct Taker<'a> {
    selection: &'a Selection,
    limit: usize,
    items: Vec<Object>,
    more: u64,
}

impl<'a> Taker<'a> {
    fn new(selection: &'a Selection, limit: u64) -> Self {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        Self { selection, limit, items: Vec::new(), more: 0 }
    }

    fn take(&mut self, object: &Object) -> bool {
        if !self.selection.matches(object.meta()) {
            return true;
        }
        if self.limit == 0 || self.items.len() < self.limit {
            self.items.push(object.clone());
            return true;
        }
        self.more += 1;
        // With a selector the remaining count is not told, so knowing that there is more is enough.
        self.selection.is_plain()
    }

    fn finish(self, revision: u64) -> List {
        let next = match (self.more, self.items.last()) {
            (1.., Some(last)) => Token::after(revision, last).encode(),
            _ => String::new(),
        };
        let remaining = (self.more > 0 && self.selection.is_plain()).then_some(self.more);
        List { items: self.items.into(), resource_version: revision, continue_token: next, remaining }
    }
}
