//! I24, I28: there is one metadata log. Whoever shows a state shows the same at the same offset, and within a process never an
//! older one after a newer one; brokers show only what a controller had committed and applied.
//!
//! What the states say is not known here.

use std::collections::BTreeMap;
use std::sync::Arc;

use vltava_metadata::Image;
use vltava_model::MetadataOffset;

use super::{Life, Violation};

/// Who shows a state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    Controller,
    Broker,
}

/// See the module.
#[derive(Default)]
pub struct Images {
    by_offset: BTreeMap<MetadataOffset, Arc<Image>>,
    newest: Arc<Image>,
    last: BTreeMap<Life, Arc<Image>>,
}

/// A state that nobody had shown before, between its neighbours among those that were.
#[derive(Debug)]
pub struct Place {
    before: Option<Arc<Image>>,
    pub image: Arc<Image>,
    after: Option<Arc<Image>>,
}

impl Place {
    /// From the state before to this one, and from this one to the next.
    pub fn steps(&self) -> impl Iterator<Item = (&Arc<Image>, &Arc<Image>)> {
        let before = self.before.iter().map(|before| (before, &self.image));
        before.chain(self.after.iter().map(|after| (&self.image, after)))
    }
}

impl Images {
    /// The newest state that a controller showed.
    pub fn newest(&self) -> &Arc<Image> {
        &self.newest
    }

    /// Somebody shows a state; gives its place when it is new.
    pub fn see(&mut self, life: Life, image: Arc<Image>, source: Source) -> Result<Option<Place>, Violation> {
        let (host, offset) = (life.host, image.offset());
        if let Some(last) = self.last.get(&life) {
            if Arc::ptr_eq(last, &image) {
                return Ok(None);
            }
            if offset < last.offset() {
                return Err(format!("I28: {host} shows metadata {offset} after {}", last.offset()));
            }
        }
        self.last.insert(life, image.clone());
        match source {
            Source::Broker if offset > self.newest.offset() => {
                let newest = self.newest.offset();
                return Err(format!(
                    "I28: {host} shows metadata {offset}, controllers applied up to {newest}"
                ));
            }
            Source::Controller if offset > self.newest.offset() => self.newest = image.clone(),
            Source::Broker | Source::Controller => {}
        }
        if let Some(known) = self.by_offset.get(&offset) {
            return match **known == *image {
                true => Ok(None),
                false => Err(format!(
                    "I24: {host} has another state at metadata offset {offset} than was seen before"
                )),
            };
        }
        let before = self.by_offset.range(..offset).next_back().map(|(_, image)| image.clone());
        let after = self.by_offset.range(offset..).next().map(|(_, image)| image.clone());
        self.by_offset.insert(offset, image.clone());
        Ok(Some(Place { before, image, after }))
    }
}

#[cfg(test)]
mod tests {
    use vltava_metadata::record;

    use super::*;
    use crate::host::HostId;

    fn life(host: u64, start: u32) -> Life {
        Life { host: HostId(host), start }
    }

    fn after(image: &Arc<Image>, level: u32) -> Arc<Image> {
        let records = [record::feature("f", level)];
        Arc::new(image.replayed(image.offset(), &records).unwrap())
    }

    #[test]
    fn another_state_at_an_offset_an_older_state_and_an_uncommitted_one_are_told() {
        let mut images = Images::default();
        let empty = Arc::new(Image::empty());
        let (one, other) = (after(&empty, 1), after(&empty, 2));
        let two = after(&one, 2);
        assert!(images.see(life(1, 1), one.clone(), Source::Controller).unwrap().is_some());
        assert!(images.see(life(2, 1), two.clone(), Source::Broker).unwrap_err().contains("I28"));
        assert!(images.see(life(1, 1), two.clone(), Source::Controller).unwrap().is_some());
        assert!(images.see(life(2, 2), two.clone(), Source::Broker).unwrap().is_none());
        assert!(images.see(life(2, 2), one.clone(), Source::Broker).unwrap_err().contains("I28"));
        assert!(
            images.see(life(2, 3), one, Source::Broker).unwrap().is_none(),
            "another process may begin anew"
        );
        assert!(images.see(life(3, 1), other, Source::Controller).unwrap_err().contains("I24"));
    }

    #[test]
    fn a_state_gets_its_place_between_those_that_are_known() {
        let mut images = Images::default();
        let one = after(&Arc::new(Image::empty()), 1);
        let (two, three) = (after(&one, 2), after(&after(&one, 2), 3));
        let steps = |place: Option<Place>| -> Vec<(u64, u64)> {
            let place = place.unwrap();
            place.steps().map(|(from, to)| (from.offset().get(), to.offset().get())).collect()
        };
        assert_eq!(steps(images.see(life(1, 1), one, Source::Controller).unwrap()), []);
        assert_eq!(steps(images.see(life(1, 1), three, Source::Controller).unwrap()), [(1, 3)]);
        assert_eq!(steps(images.see(life(2, 1), two, Source::Controller).unwrap()), [(1, 2), (2, 3)]);
    }
}
