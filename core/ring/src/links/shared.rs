//! A queue of bytes in memory that two processes of one host share: one of them sends, the other receives.
//!
//! The memory is an anonymous file (memfd) of the sender, which the receiver opens through /proc, so that nothing is
//! left behind however they end. It holds two counters, of bytes sent and received since the start; each is written by
//! one side only, and where they are modulo [`CAPACITY`] is where the bytes are. Whoever has nothing to do says so
//! beside them before it sleeps, and is woken over a connection that both have; see `process`.
//!
//! It refuses to block, and trusts the other side with nothing but the bytes: counters that contradict each other are
//! an error.

use rustix::{
    fs::{MemfdFlags, Mode, OFlags, fstat, ftruncate, memfd_create, open},
    mm::{MapFlags, ProtFlags, mmap, munmap},
};
use std::{
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    ptr::NonNull,
    sync::atomic::{AtomicU32, AtomicU64, Ordering, fence},
};

/// Bytes under way at most: several chunks, and no more than half an L2 cache.
pub(crate) const CAPACITY: usize = 1 << 20;
/// A sender is woken when so much is free, so that it is not woken for every piece that is taken out.
const WORTH_WAKING: usize = CAPACITY / 4;
/// Where the bytes begin; before them lie [`Counters`].
const BYTES_AT: usize = 4096;
const FILE_BYTES: usize = BYTES_AT + CAPACITY;
/// Bytes of an [`Offer`] on the wire.
pub(crate) const OFFER_BYTES: usize = 24;

/// What both sides see at the start of the memory; each field has a cache line, or a pair, of its own.
#[repr(C)]
struct Counters {
    token: [u8; 16],
    sent: Line<AtomicU64>,
    received: Line<AtomicU64>,
    sender_sleeps: Line<AtomicU32>,
    receiver_sleeps: Line<AtomicU32>,
}

#[repr(C, align(128))]
struct Line<T>(T);

/// How the receiver finds the memory: a process, a file of it, and what must stand at its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Offer {
    pid: u32,
    fd: u32,
    token: [u8; 16],
}

impl Offer {
    /// As it travels.
    pub(crate) fn encode(&self) -> [u8; OFFER_BYTES] {
        let mut bytes = [0; OFFER_BYTES];
        bytes[..4].copy_from_slice(&self.pid.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.fd.to_le_bytes());
        bytes[8..].copy_from_slice(&self.token);
        bytes
    }

    /// Back from [`Offer::encode`].
    pub(crate) fn decode(bytes: &[u8; OFFER_BYTES]) -> Offer {
        let word = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        Offer { pid: word(0), fd: word(4), token: std::array::from_fn(|i| bytes[8 + i]) }
    }
}

/// The two users of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// Puts bytes in.
    Sender,
    /// Takes bytes out.
    Receiver,
}

/// One side of a queue. Only one thread at a time may send, and only one receive.
pub(crate) struct Queue {
    memory: NonNull<u8>,
    /// Kept open by the sender until the receiver has it.
    file: Option<OwnedFd>,
}

// SAFETY: the memory belongs to the queue alone in this process; counters are atomics, and bytes are touched by one
// thread of each side at a time, on either side of the counters.
unsafe impl Send for Queue {}
// SAFETY: as above.
unsafe impl Sync for Queue {}

impl Queue {
    /// Memory for a sender, and how the receiver finds it.
    pub(crate) fn create() -> io::Result<(Queue, Offer)> {
        let file = memfd_create("ringspin", MemfdFlags::CLOEXEC)?;
        ftruncate(&file, FILE_BYTES as u64)?;
        let mut token = [0; 16];
        getrandom::fill(&mut token).map_err(|error| io::Error::other(error.to_string()))?;
        let memory = map(&file)?;
        // SAFETY: fresh memory, longer than the token, that nobody else has mapped yet.
        unsafe { memory.as_ptr().copy_from_nonoverlapping(token.as_ptr(), token.len()) };
        let offer = Offer { pid: std::process::id(), fd: file.as_raw_fd().unsigned_abs(), token };
        Ok((Queue { memory, file: Some(file) }, offer))
    }

    /// The receiver's side. Errors where the sender is no process that this one can see: in another container.
    pub(crate) fn open(offer: &Offer) -> io::Result<Queue> {
        let path = format!("/proc/{}/fd/{}", offer.pid, offer.fd);
        // Should another process have that number here, its file may be a pipe, which must not be waited for.
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = open(path, flags, Mode::empty())?;
        // Touching memory behind the end of a file would be fatal.
        if fstat(&file)?.st_size != FILE_BYTES as i64 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a file of another size"));
        }
        let queue = Queue { memory: map(&file)?, file: None };
        if queue.counters().token != offer.token {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a file of another queue"));
        }
        Ok(queue)
    }

    /// The receiver has opened the memory, or will not.
    pub(crate) fn forget_file(&mut self) {
        self.file = None;
    }

    fn counters(&self) -> &Counters {
        // SAFETY: the memory is as long as a page and aligned to one, and holds counters from its creation on (zeros
        // are valid); all that changes in them is atomic.
        unsafe { self.memory.cast::<Counters>().as_ref() }
    }

    /// Bytes in the queue, from both counters.
    fn filled(&self) -> io::Result<(u64, u64, usize)> {
        let counters = self.counters();
        let sent = counters.sent.0.load(Ordering::Acquire);
        let received = counters.received.0.load(Ordering::Acquire);
        match usize::try_from(sent.wrapping_sub(received)) {
            Ok(filled) if filled <= CAPACITY => Ok((sent, received, filled)),
            _ => {
                let detail = format!("{received} bytes received of {sent} in shared memory");
                Err(io::Error::new(io::ErrorKind::InvalidData, detail))
            }
        }
    }

    /// Puts in as much of `head` and then `body` as there is room for.
    pub(crate) fn send(&self, head: &[u8], body: &[u8]) -> io::Result<usize> {
        let (sent, _, filled) = self.filled()?;
        let of_head = head.len().min(CAPACITY - filled);
        let of_body = body.len().min(CAPACITY - filled - of_head);
        // SAFETY: what is written lies between `filled` and the capacity, where the receiver does not look before
        // the counter says so.
        unsafe {
            self.put(sent, &head[..of_head]);
            self.put(sent + of_head as u64, &body[..of_body]);
        }
        self.counters().sent.0.store(sent + (of_head + of_body) as u64, Ordering::Release);
        Ok(of_head + of_body)
    }

    /// Takes out what there is, into `head` and then `body`.
    pub(crate) fn receive(&self, head: &mut [u8], body: &mut [u8]) -> io::Result<usize> {
        let (_, received, filled) = self.filled()?;
        let of_head = head.len().min(filled);
        let of_body = body.len().min(filled - of_head);
        // SAFETY: what is read lies within `filled`, which the sender does not touch before the counter says so.
        unsafe {
            self.take(received, &mut head[..of_head]);
            self.take(received + of_head as u64, &mut body[..of_body]);
        }
        self.counters().received.0.store(received + (of_head + of_body) as u64, Ordering::Release);
        Ok(of_head + of_body)
    }

    /// Lets `with` use what there is in one piece, and takes out as much as it says it has used.
    pub(crate) fn lend(&self, with: &mut dyn FnMut(&[u8]) -> usize) -> io::Result<usize> {
        let (_, received, filled) = self.filled()?;
        let (at, first) = place(received, filled);
        // SAFETY: what is lent lies within `filled`, which the sender does not touch before the counter says so.
        let used =
            with(unsafe { std::slice::from_raw_parts(self.memory.as_ptr().add(BYTES_AT + at), first) });
        assert!(used <= first, "no more is used than was lent");
        self.counters().received.0.store(received + used as u64, Ordering::Release);
        Ok(used)
    }

    /// # Safety
    /// The other side does not touch these places meanwhile; there are at most [`CAPACITY`].
    unsafe fn put(&self, position: u64, bytes: &[u8]) {
        let (at, first) = place(position, bytes.len());
        // SAFETY: `place` keeps both parts within the bytes of the queue.
        unsafe {
            let start = self.memory.as_ptr().add(BYTES_AT);
            start.add(at).copy_from_nonoverlapping(bytes.as_ptr(), first);
            start.copy_from_nonoverlapping(bytes.as_ptr().add(first), bytes.len() - first);
        }
    }

    /// # Safety
    /// As [`Queue::put`].
    unsafe fn take(&self, position: u64, bytes: &mut [u8]) {
        let (at, first) = place(position, bytes.len());
        // SAFETY: `place` keeps both parts within the bytes of the queue.
        unsafe {
            let start = self.memory.as_ptr().add(BYTES_AT);
            bytes.as_mut_ptr().copy_from_nonoverlapping(start.add(at), first);
            bytes.as_mut_ptr().add(first).copy_from_nonoverlapping(start, bytes.len() - first);
        }
    }

    /// Whether `side` can move bytes; so does one of a queue that is broken, to be told.
    pub(crate) fn is_ready(&self, side: Side) -> bool {
        match (self.filled(), side) {
            (Err(_), _) => true,
            (Ok((_, _, filled)), Side::Sender) => CAPACITY - filled >= WORTH_WAKING,
            (Ok((_, _, filled)), Side::Receiver) => filled > 0,
        }
    }

    /// Says that `side` is about to sleep until it is ready; it must look once more before it does.
    pub(crate) fn announce_sleep(&self, side: Side) {
        self.sleeps(side).store(1, Ordering::Relaxed);
        // Either we see the other side's counter after this, or it sees that we sleep after it has moved it.
        fence(Ordering::SeqCst);
    }

    /// `side` is awake.
    pub(crate) fn retract_sleep(&self, side: Side) {
        self.sleeps(side).store(0, Ordering::Relaxed);
    }

    /// Whether `side` sleeps and has something to do now: it has to be woken, once.
    pub(crate) fn must_wake(&self, side: Side) -> bool {
        fence(Ordering::SeqCst);
        let sleeps = self.sleeps(side);
        sleeps.load(Ordering::Relaxed) != 0 && self.is_ready(side) && sleeps.swap(0, Ordering::Relaxed) != 0
    }

    fn sleeps(&self, side: Side) -> &AtomicU32 {
        match side {
            Side::Sender => &self.counters().sender_sleeps.0,
            Side::Receiver => &self.counters().receiver_sleeps.0,
        }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: mapped by `map` with this length, and nothing that was borrowed from it lives on.
        let _ = unsafe { munmap(self.memory.as_ptr().cast(), FILE_BYTES) };
    }
}

fn map(file: impl AsFd) -> io::Result<NonNull<u8>> {
    // SAFETY: a new mapping, wherever the kernel puts it.
    let memory = unsafe {
        mmap(std::ptr::null_mut(), FILE_BYTES, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, file, 0)?
    };
    NonNull::new(memory.cast()).ok_or_else(|| io::Error::other("memory at address 0"))
}

/// Where `length` bytes from `position` on begin, and how many of them lie before the end.
fn place(position: u64, length: usize) -> (usize, usize) {
    let at = (position % CAPACITY as u64) as usize;
    (at, length.min(CAPACITY - at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Two sides, as two processes have them.
    fn pair() -> (Queue, Queue) {
        let (sender, offer) = Queue::create().unwrap();
        let receiver = Queue::open(&Offer::decode(&offer.encode())).unwrap();
        (sender, receiver)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20))]

        #[test]
        fn bytes_arrive_in_order_whatever_their_pieces(
            pieces in proptest::collection::vec((0usize..40, 0..CAPACITY, 0..CAPACITY, any::<bool>()), 1..20)
        ) {
            let (sender, receiver) = pair();
            let (mut sent, mut received) = (0u64, 0u64);
            let byte = |position: u64| (position.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8;
            for (head, body, take, lent) in pieces {
                let bytes: Vec<u8> = (sent..).take(head + body).map(byte).collect();
                let count = sender.send(&bytes[..head], &bytes[head..]).unwrap();
                let room = CAPACITY - (sent - received) as usize;
                prop_assert_eq!(count, (head + body).min(room));
                sent += count as u64;
                let there = (sent - received) as usize;
                let expected = |count: usize| (received..).take(count).map(byte).collect::<Vec<u8>>();
                let count = if lent {
                    receiver.lend(&mut |bytes| {
                        assert_eq!(bytes, expected(bytes.len()));
                        bytes.len().min(take)
                    }).unwrap()
                } else {
                    let (mut head, mut body) = (vec![0; 7], vec![0; take]);
                    let count = receiver.receive(&mut head, &mut body).unwrap();
                    prop_assert_eq!(count, there.min(7 + take));
                    prop_assert_eq!(&[head, body].concat()[..count], &expected(count)[..]);
                    count
                };
                received += count as u64;
            }
        }
    }

    #[test]
    fn whoever_sleeps_is_woken_once_and_only_when_there_is_something_to_do() {
        let (sender, receiver) = pair();
        receiver.announce_sleep(Side::Receiver);
        assert!(!sender.must_wake(Side::Receiver), "nothing was sent");
        sender.send(&[1], &[]).unwrap();
        assert!(sender.must_wake(Side::Receiver) && !sender.must_wake(Side::Receiver));
        sender.send(&[], &vec![0; CAPACITY]).unwrap();
        sender.announce_sleep(Side::Sender);
        receiver.receive(&mut [], &mut [0; 100]).unwrap();
        assert!(!receiver.must_wake(Side::Sender), "hardly anything was taken out");
        receiver.receive(&mut [], &mut vec![0; WORTH_WAKING]).unwrap();
        assert!(receiver.must_wake(Side::Sender));
        sender.retract_sleep(Side::Sender);
        assert!(!receiver.must_wake(Side::Sender));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let (queue, offer) = Queue::create().unwrap();
        let other = Offer { token: [0; 16], ..offer };
        assert_eq!(Queue::open(&other).err().unwrap().kind(), io::ErrorKind::InvalidData);
        let short = memfd_create("short", MemfdFlags::CLOEXEC).unwrap();
        let short = Offer { fd: short.as_raw_fd().unsigned_abs(), ..offer };
        assert!(Queue::open(&short).is_err());
        assert!(Queue::open(&Offer { fd: 1 << 30, ..offer }).is_err());
        // A peer that has gone mad.
        queue.counters().received.0.store(1, Ordering::Relaxed);
        assert_eq!(queue.send(&[1], &[]).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(queue.receive(&mut [0], &mut []).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert!(queue.is_ready(Side::Sender) && queue.is_ready(Side::Receiver));
        queue.counters().sent.0.store(CAPACITY as u64 + 2, Ordering::Relaxed);
        assert!(queue.lend(&mut |_| 0).is_err());
    }
}
