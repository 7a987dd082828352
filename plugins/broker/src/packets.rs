//! The packets in a stream of bytes, whole.
//!
//! A small packet is read into a buffer that every connection has. A large one waits for memory first,
//! and whoever sends one slowly while others wait for that memory is let go.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use forebay_sdk::{Figure, Voice};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    sync::Notify,
    time::{sleep, timeout},
};

use crate::{
    budget::{Budget, Charge, Use},
    wire::{Header, Refusal, code, header},
};

/// How much is read at a time, and the largest packet that needs no memory of its own.
const CHUNK: usize = 4 << 10;
/// How long a packet may take from its first byte to its last.
const LONGEST_PACKET: Duration = Duration::from_secs(30);
/// How long others wait for memory until the slowest sender of a large packet is let go.
const PATIENCE: Duration = Duration::from_secs(1);

/// Those who are sending large packets.
#[derive(Default)]
pub struct Desk {
    next: AtomicU64,
    senders: Mutex<BTreeMap<u64, Arc<Notify>>>,
}

impl Desk {
    fn enter(self: &Arc<Desk>) -> Sender {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let hurried = Arc::new(Notify::new());
        self.lock().insert(number, Arc::clone(&hurried));
        Sender { desk: Arc::clone(self), number, hurried }
    }

    /// Lets the one go that has been sending longest.
    fn hurry(&self) {
        if let Some((_, first)) = self.lock().pop_first() {
            first.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Notify>>> {
        // Every change leaves the map whole, so a panic elsewhere does not matter.
        self.senders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Sender {
    desk: Arc<Desk>,
    number: u64,
    hurried: Arc<Notify>,
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.desk.lock().remove(&self.number);
    }
}

/// A packet, and the memory that is counted for it.
pub struct Arrived {
    pub header: Header,
    pub body: Bytes,
    pub charge: Option<Charge>,
}

/// The packets that a device sends.
pub struct Packets<R> {
    from: R,
    buffer: BytesMut,
    largest: usize,
    budget: Budget,
    desk: Arc<Desk>,
    voice: Voice,
}

impl<R: AsyncRead + Unpin> Packets<R> {
    /// Up to a size in bytes. `voice` hears of the bytes.
    pub fn new(
        from: R,
        largest: usize,
        budget: Budget,
        desk: Arc<Desk>,
        voice: Voice,
    ) -> Packets<R> {
        Packets { from, buffer: BytesMut::new(), largest, budget, desk, voice }
    }

    /// The stream itself, when no more packets are read from it.
    pub fn stream(&mut self) -> &mut R {
        &mut self.from
    }

    /// The next packet. None when the other side is gone. Dropping the future loses nothing.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] for what is no packet, or too large or slow; else what the stream says.
    pub async fn next(&mut self) -> anyhow::Result<Option<Arrived>> {
        if self.buffer.is_empty() && !self.read().await? {
            return Ok(None);
        }
        match timeout(LONGEST_PACKET, self.rest()).await {
            Ok(packet) => packet,
            Err(_) => {
                let seconds = LONGEST_PACKET.as_secs();
                let why = format!("it took more than {seconds} s to send a packet");
                Err(Refusal::new(code::UNSPECIFIED, why).into())
            }
        }
    }

    /// The packet whose first byte is there.
    async fn rest(&mut self) -> anyhow::Result<Option<Arrived>> {
        let header = loop {
            match header(&self.buffer)? {
                Some(header) => break header,
                None if !self.read().await? => return Ok(None),
                None => (),
            }
        };
        let (bytes, largest) = (header.packet_bytes(), self.largest);
        if bytes > largest {
            let why = format!("it sent a packet of {bytes} bytes, and `max_packet` is {largest}");
            return Err(Refusal::new(code::PACKET_TOO_LARGE, why).into());
        }
        let charge = match bytes > CHUNK {
            true => Some(self.memory(bytes).await),
            false => None,
        };
        let is_whole = match charge.is_some() {
            true => self.read_large(bytes).await?,
            false => self.read_up_to(bytes).await?,
        };
        if !is_whole {
            return Ok(None);
        }
        let mut packet = self.buffer.split_to(bytes).freeze();
        let body = packet.split_off(header.header_bytes);
        if charge.is_some() {
            // The memory of a large packet is not kept for those behind it.
            self.buffer = BytesMut::from(&self.buffer[..]);
        }
        Ok(Some(Arrived { header, body, charge }))
    }

    async fn memory(&self, bytes: usize) -> Charge {
        loop {
            tokio::select! {
                biased;
                charge = self.budget.take_once_free(Use::Input, bytes) => return charge,
                () = sleep(PATIENCE) => self.desk.hurry(),
            }
        }
    }

    async fn read_large(&mut self, bytes: usize) -> anyhow::Result<bool> {
        let sender = self.desk.enter();
        self.buffer.reserve(bytes - self.buffer.len());
        tokio::select! {
            biased;
            is_whole = self.read_up_to(bytes) => is_whole,
            () = sender.hurried.notified() => {
                let why = "it sends a large packet slowly, and others wait for the memory (`memory`)";
                Err(Refusal::new(code::SERVER_BUSY, why).into())
            }
        }
    }

    async fn read_up_to(&mut self, bytes: usize) -> anyhow::Result<bool> {
        while self.buffer.len() < bytes {
            if !self.read().await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Reads what is there. False when the other side is gone.
    async fn read(&mut self) -> anyhow::Result<bool> {
        if self.buffer.capacity() == self.buffer.len() {
            self.buffer.reserve(CHUNK);
        }
        let bytes = self.from.read_buf(&mut self.buffer).await?;
        self.voice.count(Figure::BytesIn, bytes as u64);
        Ok(bytes > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packets<R: AsyncRead + Unpin>(from: R, memory: usize) -> Packets<R> {
        Packets::new(from, 100_000, Budget::new(memory), Arc::default(), Voice::unheard())
    }

    #[tokio::test]
    async fn packets_are_whole_however_the_bytes_come() {
        let stream: &[u8] = &[0xc0, 0, 0x30, 3, 0, 1, b't', 0xc0, 0];
        let mut packets = packets(one_byte_at_a_time(stream), 1 << 20);
        let mut got = Vec::new();
        while let Some(packet) = packets.next().await.unwrap() {
            got.push((packet.header.first, packet.body.to_vec()));
        }
        assert_eq!(got, [(0xc0, vec![]), (0x30, vec![0, 1, b't']), (0xc0, vec![])]);
    }

    fn one_byte_at_a_time(bytes: &'static [u8]) -> impl AsyncRead + Unpin {
        let (mut to, from) = tokio::io::duplex(1);
        tokio::spawn(async move { tokio::io::AsyncWriteExt::write_all(&mut to, bytes).await });
        from
    }

    #[tokio::test]
    async fn what_is_too_long_is_not_read() {
        let error = async |bytes: &'static [u8]| {
            let error = packets(bytes, 1 << 20).next().await.map(|_| ()).unwrap_err();
            error.to_string()
        };
        let expected = "it sent a packet of 114694 bytes, and `max_packet` is 100000";
        assert_eq!(error(&[0x30, 0x82, 0x80, 0x07]).await, expected);
        let expected = "it sent a length of more than four bytes";
        assert_eq!(error(&[0x30, 0x80, 0x80, 0x80, 0x80, 1]).await, expected);
    }

    #[tokio::test(start_paused = true)]
    async fn who_sends_a_large_packet_slowly_gives_way_to_others() {
        let budget = Budget::new(500_000);
        let desk: Arc<Desk> = Arc::default();
        let open =
            |from| Packets::new(from, 100_000, budget.clone(), Arc::clone(&desk), Voice::unheard());
        let large: Vec<u8> = [&[0x30, 0xb0, 0xea, 0x01][..], &vec![0; 30_000]].concat();
        let (mut to, from) = tokio::io::duplex(1 << 20);
        let mut slow = open(from);
        tokio::io::AsyncWriteExt::write_all(&mut to, &large[..20_000]).await.unwrap();
        let slow = tokio::spawn(async move { slow.next().await.map(|_| ()) });
        tokio::task::yield_now().await;
        assert_eq!(budget.used(Use::Input), 30_004);
        let (mut others, from) = tokio::io::duplex(1 << 20);
        let mut quick = open(from);
        tokio::io::AsyncWriteExt::write_all(&mut others, &large).await.unwrap();
        let packet = quick.next().await.unwrap().unwrap();
        assert_eq!(packet.body.len(), 30_000);
        let error = slow.await.unwrap().unwrap_err();
        assert!(error.to_string().starts_with("it sends a large packet slowly"), "{error}");
        drop(packet);
        assert_eq!(budget.used_in_all(), 0);
        drop(to);
    }
}
