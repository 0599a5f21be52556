//! Eviction: when the node runs short of memory, disk or processes, it says so, wins back what nobody needs, and ends pods,
//! in Kubernetes' order.
//!
//! - [`decide`] is pure: from readings and the time to conditions, and to what is to be done.
//! - [`rank`] is pure: which pod goes first, and what it is told.
//! - [`local`] is pure: which pod has more on the disk than its own limits let it.
//! - [`monitor`] reads and acts. It looks when the node's object is looked after, every ten seconds: two small files of the
//!   kernel and a system call for each disk. Pods are read only when a threshold is met.

pub(crate) mod decide;
pub(crate) mod local;
pub(crate) mod monitor;
mod rank;

use std::collections::BTreeMap;
use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tiphys_api::quantity::{Format, Quantity};

/// What is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Signal {
    Memory,
    NodeDisk,
    NodeInodes,
    ImageDisk,
    ImageInodes,
    Processes,
}

impl Signal {
    pub(crate) const ALL: [Self; 6] =
        [Self::Memory, Self::NodeDisk, Self::NodeInodes, Self::ImageDisk, Self::ImageInodes, Self::Processes];

    /// As settings name it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory.available",
            Self::NodeDisk => "nodefs.available",
            Self::NodeInodes => "nodefs.inodesFree",
            Self::ImageDisk => "imagefs.available",
            Self::ImageInodes => "imagefs.inodesFree",
            Self::Processes => "pid.available",
        }
    }

    /// What is short, as messages name it.
    pub(crate) fn resource(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::NodeDisk | Self::ImageDisk => "ephemeral-storage",
            Self::NodeInodes | Self::ImageInodes => "inodes",
            Self::Processes => "pids",
        }
    }

    /// The node's condition that tells of it.
    pub(crate) fn pressure(self) -> Pressure {
        match self {
            Self::Memory => Pressure::Memory,
            Self::Processes => Pressure::Processes,
            _ => Pressure::Disk,
        }
    }

    fn format(self) -> Format {
        match self {
            Self::Memory | Self::NodeDisk | Self::ImageDisk => Format::BinarySi,
            _ => Format::DecimalSi,
        }
    }

    /// An amount of it as messages write it.
    pub(crate) fn written(self, amount: u64) -> String {
        Quantity::from_units(i64::try_from(amount).unwrap_or(i64::MAX), self.format()).to_string()
    }
}

/// A condition of the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Pressure {
    Memory,
    Disk,
    Processes,
}

impl Pressure {
    /// The condition's type.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Memory => "MemoryPressure",
            Self::Disk => "DiskPressure",
            Self::Processes => "PIDPressure",
        }
    }
}

/// An amount, or a part of what there is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Amount {
    /// As it was written, and its value.
    Quantity(String, u64),
    /// As it was written, and the part: 0.1 for `10%`.
    Part(String, f64),
}

impl Amount {
    /// Reads `100Mi` or `10%`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if let Some(percent) = text.strip_suffix('%') {
            let part = percent.parse::<f64>().ok().filter(|percent| (0.0..=100.0).contains(percent))?;
            return Some(Self::Part(text.into(), part / 100.0));
        }
        let quantity: Quantity = text.parse().ok()?;
        Some(Self::Quantity(text.into(), u64::try_from(quantity.value()).ok()?))
    }

    /// The amount, where there is so much in all.
    pub(crate) fn of(&self, capacity: u64) -> u64 {
        match self {
            Self::Quantity(_, value) => *value,
            Self::Part(_, part) => (capacity as f64 * part) as u64,
        }
    }

    /// How messages write it: a part as what it comes to.
    fn written(&self, signal: Signal, capacity: u64) -> String {
        match self {
            Self::Quantity(text, _) => text.clone(),
            Self::Part(..) => signal.written(self.of(capacity)),
        }
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Quantity(text, _) | Self::Part(text, _) => f.write_str(text),
        }
    }
}

/// Amounts below which there is too little, by signal.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Thresholds(BTreeMap<Signal, Amount>);

impl Thresholds {
    /// Kubernetes' defaults of the hard ones.
    pub(crate) fn hard() -> Self {
        let defaults = [
            (Signal::Memory, "100Mi"),
            (Signal::NodeDisk, "10%"),
            (Signal::NodeInodes, "5%"),
            (Signal::ImageDisk, "15%"),
            (Signal::ImageInodes, "5%"),
        ];
        Self(defaults.into_iter().filter_map(|(signal, text)| Some((signal, Amount::parse(text)?))).collect())
    }

    pub(crate) fn get(&self, signal: Signal) -> Option<&Amount> {
        self.0.get(&signal)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Signal, &Amount)> {
        self.0.iter().map(|(signal, amount)| (*signal, amount))
    }

    /// The names of the signals.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.0.keys().map(|signal| signal.name())
    }
}

impl Serialize for Thresholds {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(self.iter().map(|(signal, amount)| (signal.name(), amount.to_string())))
    }
}

impl<'de> Deserialize<'de> for Thresholds {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let texts = BTreeMap::<String, String>::deserialize(from)?;
        let pair = |(name, text): (String, String)| {
            // The two are one here, as Kubernetes lets them be.
            let wanted = if name.starts_with("containerfs.") {
                name.replace("containerfs.", "imagefs.")
            } else {
                name.clone()
            };
            let signal = Signal::ALL.into_iter().find(|signal| signal.name() == wanted);
            let signal =
                signal.ok_or_else(|| D::Error::custom(format!("unknown eviction signal {name:?}")))?;
            let amount = Amount::parse(&text);
            Ok((
                signal,
                amount.ok_or_else(|| D::Error::custom(format!("invalid threshold {text:?} of {name}")))?,
            ))
        };
        Ok(Self(texts.into_iter().map(pair).collect::<Result<_, D::Error>>()?))
    }
}
