//! Service addresses and node ports.

mod cidr;

pub use cidr::{Cidr, CidrError};
