//! How many may be in at a time: devices that are connected, and those that have not said who they
//! are.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use anyhow::bail;

/// The most connections of one address that have not said who they are.
const MOST_WAITING: usize = 16;

/// Who is in.
pub struct Hall {
    most: AtomicUsize,
    /// Of one address.
    most_of_one: AtomicUsize,
    guests: Mutex<BTreeMap<SocketAddr, Standing>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// It has not said who it is.
    Waiting,
    Connected,
}

/// A place in the hall, until it is dropped.
pub struct Guest {
    hall: Arc<Hall>,
    from: SocketAddr,
}

impl Hall {
    /// Room for so many devices, and for so many of one address.
    pub fn new(most: usize, most_of_one: usize) -> Arc<Hall> {
        let (most, most_of_one) = (most.into(), most_of_one.into());
        Arc::new(Hall { most, most_of_one, guests: Mutex::default() })
    }

    /// Has room for others. Who is in stays.
    pub fn resize(&self, most: usize, most_of_one: usize) {
        self.most.store(most, Ordering::Relaxed);
        self.most_of_one.store(most_of_one, Ordering::Relaxed);
    }

    /// Lets a connection wait, also when no place is free: it is told so once it has said who it is.
    ///
    /// # Errors
    ///
    /// Too many wait.
    pub fn enter(self: &Arc<Hall>, from: SocketAddr) -> anyhow::Result<Guest> {
        let mut guests = self.lock();
        let waiting = guests.iter().filter(|(_, standing)| **standing == Standing::Waiting);
        let here = waiting.clone().filter(|(other, _)| is_same(other, &from)).count();
        if here >= MOST_WAITING {
            bail!("{MOST_WAITING} connections of this address have not said who they are");
        }
        let most = self.most().max(MOST_WAITING);
        if waiting.count() >= most {
            bail!("{most} connections have not said who they are");
        }
        guests.insert(from, Standing::Waiting);
        drop(guests);
        Ok(Guest { hall: Arc::clone(self), from })
    }

    /// Gives a place to a device that has said who it is.
    ///
    /// # Errors
    ///
    /// No place is free.
    pub fn admit(&self, from: SocketAddr) -> anyhow::Result<()> {
        let mut guests = self.lock();
        self.check_place(&guests, from)?;
        guests.insert(from, Standing::Connected);
        Ok(())
    }

    /// The last tenth of the places is for addresses that have none.
    fn check_place(
        &self,
        guests: &BTreeMap<SocketAddr, Standing>,
        from: SocketAddr,
    ) -> anyhow::Result<()> {
        let connected = guests.iter().filter(|(_, standing)| **standing == Standing::Connected);
        let free = self.most().saturating_sub(connected.clone().count());
        if free == 0 {
            bail!("`max_connections` reached");
        }
        let of_one = connected.filter(|(other, _)| is_same(other, &from)).count();
        if of_one >= self.most_of_one.load(Ordering::Relaxed) {
            bail!("`max_connections_per_address` reached");
        }
        if free <= self.most() / 10 && of_one > 0 {
            bail!("the last tenth of `max_connections` is kept for other addresses");
        }
        Ok(())
    }

    fn most(&self) -> usize {
        self.most.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<SocketAddr, Standing>> {
        // Every change leaves the map whole, so a panic elsewhere does not matter.
        self.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.hall.lock().remove(&self.from);
    }
}

/// Who counts as one: an address of IPv4, or a network of IPv6, in which a device has as many
/// addresses as it likes.
pub fn household(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.into(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
    }
}

fn is_same(one: &SocketAddr, other: &SocketAddr) -> bool {
    household(one.ip()) == household(other.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn one_address_cannot_lock_the_others_out() {
        let hall = Hall::new(20, 20);
        let mut guests = Vec::new();
        let mut last = String::new();
        for port in 1..100 {
            let from = SocketAddr::from(([10, 0, 0, 1], port));
            match hall.enter(from) {
                Ok(guest) => guests.push(guest),
                Err(error) => last = error.to_string(),
            }
        }
        assert_eq!(guests.len(), MOST_WAITING);
        assert_eq!(last, "16 connections of this address have not said who they are");

        assert!(hall.enter(from("10.0.0.2:1")).is_ok());
    }

    #[test]
    fn the_last_tenth_is_for_addresses_that_have_no_place() {
        let hall = Hall::new(20, 20);
        let enter = |text: &str| {
            let guest = hall.enter(from(text))?;
            hall.admit(from(text)).map(|()| guest)
        };
        let error = |text: &str| enter(text).err().map(|error| error.to_string());
        let mut guests = Vec::new();
        for port in 1..=18 {
            guests.push(enter(&format!("10.0.0.1:{port}")).unwrap());
        }
        let kept = "the last tenth of `max_connections` is kept for other addresses";
        assert_eq!(error("10.0.0.1:19").unwrap(), kept);
        guests.push(enter("10.0.0.2:1").unwrap());
        assert_eq!(error("10.0.0.2:2").unwrap(), kept);
        guests.push(enter("10.0.0.3:1").unwrap());
        assert_eq!(error("10.0.0.4:1").unwrap(), "`max_connections` reached");
        // A place that is given up is free again.
        guests.pop();
        assert!(error("10.0.0.4:1").is_none());
    }

    #[test]
    fn a_network_of_ipv6_is_one_household() {
        assert!(is_same(&from("[2001:db8::1]:1"), &from("[2001:db8::2]:2")));
        assert!(!is_same(&from("[2001:db8::1]:1"), &from("[2001:db8:0:1::1]:1")));
        assert!(is_same(&from("[::ffff:10.0.0.1]:1"), &from("10.0.0.1:2")));
        assert!(!is_same(&from("10.0.0.1:1"), &from("10.0.0.2:1")));
    }
}
