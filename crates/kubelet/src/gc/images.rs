//! Images that no container uses are removed when their disk is too full, the longest unused first.

use std::collections::{HashMap, HashSet};

use jiff::{SignedDuration, Timestamp};
use tiphys_runtime::{Filter, Image};

use crate::configuration::Settings;
use crate::context::Context;
use crate::stats::machine;

/// How often images are looked at.
const PERIOD: SignedDuration = SignedDuration::from_mins(5);

/// What is known of the images of this node.
#[derive(Default)]
pub(crate) struct Images {
    known: HashMap<String, Known>,
    looked: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    first: Timestamp,
    used: Option<Timestamp>,
}

impl Images {
    /// Looks when it is time, and removes what is too much.
    pub(crate) async fn look(&mut self, ctx: &Context, now: Timestamp) {
        if self.looked.is_some_and(|at| now.duration_since(at) < PERIOD) {
            return;
        }
        self.looked = Some(now);
        let Ok((images, in_use)) = self.detect(ctx, now).await else { return };
        let file_systems = ctx.runtime.image_fs().await.unwrap_or_default();
        let disk = file_systems.first().and_then(|found| machine::file_system(&found.mountpoint));
        let wanted = disk.map_or(0, |disk| excess(&ctx.config.settings, disk.capacity, disk.available));
        let chosen = self.choose(ctx, &images, &in_use, wanted, now);
        let freed = remove(ctx, chosen).await;
        if freed < wanted {
            tracing::warn!(wanted, freed, "too few unused images to make room on their disk");
        }
    }

    /// Removes all that nobody uses. Whether there was any.
    pub(crate) async fn free_all(&mut self, ctx: &Context, now: Timestamp) -> bool {
        let Ok((images, in_use)) = self.detect(ctx, now).await else { return false };
        remove(ctx, self.choose(ctx, &images, &in_use, u64::MAX, now)).await > 0
    }

    /// Notes which images there are and which of them are used.
    async fn detect(
        &mut self,
        ctx: &Context,
        now: Timestamp,
    ) -> tiphys_runtime::Result<(Vec<Image>, HashSet<String>)> {
        let images = ctx.runtime.list_images().await?;
        let containers = ctx.runtime.list_containers(&Filter::default()).await?;
        let in_use =
            containers.into_iter().flat_map(|c| [c.image, c.image_ref]).filter(|name| !name.is_empty());
        let mut in_use: HashSet<String> = in_use.collect();
        in_use.extend(ctx.shown_images.lock().values().flat_map(HashMap::values).cloned());
        self.known.retain(|id, _| images.iter().any(|image| image.id == *id));
        for image in &images {
            let known = self.known.entry(image.id.clone()).or_insert(Known { first: now, used: None });
            if uses(&in_use, image) {
                known.used = Some(now);
            }
        }
        Ok((images, in_use))
    }

    fn choose(
        &self,
        ctx: &Context,
        images: &[Image],
        in_use: &HashSet<String>,
        bytes: u64,
        now: Timestamp,
    ) -> Vec<Image> {
        let own = |image: &Image| {
            let kept = |tag: &String| ctx.config.kept_images.iter().any(|prefix| tag.starts_with(prefix));
            image.pinned || image.tags.iter().any(kept)
        };
        let free = images.iter().filter(|image| !uses(in_use, image) && !own(image)).cloned().collect();
        choose(&ctx.config.settings, free, &self.known, bytes, now)
    }
}

fn uses(in_use: &HashSet<String>, image: &Image) -> bool {
    std::iter::once(&image.id).chain(&image.tags).chain(&image.digests).any(|name| in_use.contains(name))
}

/// The bytes to free, so that the disk is no fuller than the low threshold, once it has reached the high one.
fn excess(settings: &Settings, capacity: u64, available: u64) -> u64 {
    let used = 100 - available.saturating_mul(100).checked_div(capacity).unwrap_or(100).min(100);
    if used < u64::from(settings.image_gc_high_threshold_percent) {
        return 0;
    }
    let least = u128::from(capacity) * (100 - u128::from(settings.image_gc_low_threshold_percent)) / 100;
    u64::try_from(least).unwrap_or(u64::MAX).saturating_sub(available)
}

/// Those to be removed of those that are free: as many as hold so many bytes, and whatever is too old.
fn choose(
    settings: &Settings,
    mut free: Vec<Image>,
    known: &HashMap<String, Known>,
    bytes: u64,
    now: Timestamp,
) -> Vec<Image> {
    let facts = |image: &Image| known.get(&image.id).copied().unwrap_or(Known { first: now, used: None });
    free.sort_by_cached_key(|image| {
        let Known { first, used } = facts(image);
        (used.unwrap_or(Timestamp::MIN), first)
    });
    let (longest, mut left) = (settings.image_maximum_gc_age, bytes);
    let mut chosen = Vec::new();
    for image in free {
        let Known { first, used } = facts(&image);
        let idle = now.duration_since(used.unwrap_or(first));
        let old = !longest.is_zero() && idle > longest;
        let young = now.duration_since(first) < settings.image_minimum_gc_age;
        if old || (left > 0 && !young) {
            left = left.saturating_sub(image.size);
            chosen.push(image);
        }
    }
    chosen
}

/// Removes images; the bytes that they took.
async fn remove(ctx: &Context, images: Vec<Image>) -> u64 {
    let mut freed = 0;
    for image in images {
        match ctx.runtime.remove_image(&image.id).await {
            Ok(()) => {
                tracing::info!(image = image.id, tags = ?image.tags, bytes = image.size, "removed an unused image");
                freed += image.size;
            }
            Err(error) => tracing::warn!(image = image.id, %error, "cannot remove an unused image"),
        }
    }
    freed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(id: &str, size: u64) -> Image {
        Image { id: id.into(), size, ..Image::default() }
    }

    fn at(minutes: i64) -> Timestamp {
        Timestamp::from_second(minutes * 60).unwrap()
    }

    #[test]
    fn room_is_made_from_the_high_to_the_low_threshold() {
        let settings = Settings::default();
        assert_eq!(excess(&settings, 1000, 200), 0);
        assert_eq!(excess(&settings, 1000, 150), 50);
        assert_eq!(excess(&settings, 1000, 0), 200);
        assert_eq!(excess(&settings, 0, 0), 0);
    }

    #[test]
    fn the_longest_unused_go_first_and_the_young_stay() {
        let known = HashMap::from([
            ("used-late".to_owned(), Known { first: at(0), used: Some(at(50)) }),
            ("used-early".to_owned(), Known { first: at(0), used: Some(at(10)) }),
            ("never".to_owned(), Known { first: at(5), used: None }),
            ("young".to_owned(), Known { first: at(59), used: None }),
        ]);
        let all = || known.keys().map(|id| image(id, 100)).collect::<Vec<_>>();
        let settings = Settings::default();
        let ids = |chosen: Vec<Image>| chosen.into_iter().map(|image| image.id).collect::<Vec<_>>();
        let chosen = choose(&settings, all(), &known, 150, at(60));
        assert_eq!(ids(chosen), ["never", "used-early"]);
        assert_eq!(choose(&settings, all(), &known, 0, at(60)).len(), 0);
        assert_eq!(choose(&settings, all(), &known, u64::MAX, at(60)).len(), 3);
        let settings = Settings { image_maximum_gc_age: SignedDuration::from_mins(45), ..settings };
        let old = choose(&settings, all(), &known, 0, at(60));
        assert_eq!(ids(old), ["never", "used-early"]);
    }
}
