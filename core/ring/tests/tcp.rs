//! Rings over TCP on loopback: forming them among strangers, using them, and losing them.
#![allow(clippy::unwrap_used)] // a test may panic

use ringspin_job::JobSecret;
use ringspin_ring::{Abort, HandshakeFault, Ring, RingConfig, RingError, Wire};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    time::{Duration, Instant},
};

fn listeners(world: usize) -> (Vec<TcpListener>, Vec<SocketAddr>) {
    let listeners: Vec<_> = (0..world).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let addresses = listeners.iter().map(|listener| listener.local_addr().unwrap()).collect();
    (listeners, addresses)
}

fn config(rank: usize, peers: &[SocketAddr]) -> RingConfig {
    RingConfig {
        rank,
        world: peers.len(),
        generation: 7,
        attempt: 1,
        peers: peers.to_vec(),
        secret: JobSecret::new([5; 32]),
        connect_timeout: Duration::from_secs(20),
        io_timeout: Duration::from_secs(20),
        chunk_bytes: RingConfig::DEFAULT_CHUNK_BYTES,
        socket_buffer_bytes: 0,
        shared_memory: true,
        abort: Abort::new(),
    }
}

/// Forms a ring among threads and runs `work` on each rank.
fn on_all<T: Send>(
    listeners: &[TcpListener],
    configure: impl Fn(usize) -> RingConfig + Sync,
    work: impl Fn(Result<Ring, RingError>) -> T + Sync,
) -> Vec<T> {
    std::thread::scope(|scope| {
        let (configure, work) = (&configure, &work);
        let threads: Vec<_> = listeners
            .iter()
            .enumerate()
            .map(|(rank, listener)| scope.spawn(move || work(Ring::connect(configure(rank), listener))))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn rings_of_every_size_reduce_over_tcp_and_shared_memory() {
    for (world, shared_memory) in
        [1, 2, 3, 4, 7].into_iter().flat_map(|world| [(world, false), (world, true)])
    {
        let (listeners, peers) = listeners(world);
        on_all(
            &listeners,
            |rank| RingConfig { shared_memory, ..config(rank, &peers) },
            |ring| {
                let mut ring = ring.unwrap();
                for length in [0, 1, 1000, 100_000, 1_500_001] {
                    let expected = (0..world).sum::<usize>() as f32;
                    for wire in [Wire::F32, Wire::Bf16] {
                        let mut data = vec![ring.rank() as f32; length];
                        ring.all_reduce_f32(&mut data, wire).unwrap();
                        assert!(data.iter().all(|value| *value == expected), "{length} of {world}");
                    }
                    let mut data = vec![ring.rank() as i64 - 1; length];
                    ring.all_reduce_i64(&mut data).unwrap();
                    assert!(data.iter().all(|value| *value == expected as i64 - world as i64));
                    let mut weights = vec![ring.rank() as f32; length];
                    ring.broadcast_f32(world - 1, &mut weights).unwrap();
                    assert!(weights.iter().all(|value| *value == world as f32 - 1.0));
                }
                assert_eq!(ring.stats().refused_connections, 0);
            },
        );
    }
}

#[test]
fn small_buffers_and_chunks_change_nothing() {
    for shared_memory in [false, true] {
        let (listeners, peers) = listeners(3);
        let small = |rank| RingConfig {
            chunk_bytes: 4 << 10,
            socket_buffer_bytes: 128 << 10,
            shared_memory,
            ..config(rank, &peers)
        };
        on_all(&listeners, small, |ring| {
            let mut ring = ring.unwrap();
            // An odd number of 2-byte elements first: what follows is not aligned.
            let mut data = vec![1.5; 777_777];
            ring.all_reduce_f32(&mut data, Wire::Bf16).unwrap();
            assert!(data.iter().all(|value| *value == 4.5));
            ring.all_reduce_f32(&mut data, Wire::F32).unwrap();
            assert!(data.iter().all(|value| *value == 13.5));
        });
    }
}

#[test]
fn a_rank_that_sleeps_is_woken_by_the_failure_of_another() {
    for (shared_memory, length) in [(false, 8), (true, 8), (false, 3_000_000), (true, 3_000_000)] {
        let (listeners, peers) = listeners(3);
        let failed = on_all(
            &listeners,
            |rank| RingConfig { shared_memory, ..config(rank, &peers) },
            |ring| {
                let mut ring = ring.unwrap();
                if ring.rank() == 1 {
                    // The others sleep by then.
                    std::thread::sleep(Duration::from_millis(200));
                    ring.abort_handle().abort("told to");
                    return (Instant::now(), String::new());
                }
                let error = ring.all_reduce_f32(&mut vec![1.0; length], Wire::F32).unwrap_err();
                (Instant::now(), error.to_string())
            },
        );
        for (at, error) in [&failed[0], &failed[2]] {
            assert!(error.contains("told to"), "{error}");
            let late = at.saturating_duration_since(failed[1].0);
            // Far below any timeout, also on a machine that has much to do.
            assert!(late < Duration::from_secs(1), "{late:?}");
        }
    }
}

/// Strangers that stay connected until they are dropped.
fn pester(address: SocketAddr) -> Vec<TcpStream> {
    let connect = || TcpStream::connect(address).unwrap();
    let mut strangers = vec![];
    // Port scanners come and go; half-open ones say nothing; others talk HTTP, TLS or nonsense.
    drop(connect());
    strangers.push(connect());
    for garbage in
        [&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], &[0x16, 3, 1, 2, 0, 1], &[0; 4096], b"RINGSPIN", b"R"]
    {
        let mut stranger = connect();
        let _ = stranger.write_all(garbage);
        strangers.push(stranger);
    }
    // Magic and version are right, all else is not.
    let mut stranger = connect();
    let mut hello = [0xee; 72];
    hello[..12].copy_from_slice(b"RINGSPIN\x01\0\0\0");
    let _ = stranger.write_all(&hello);
    let _ = stranger.write_all(&[7; 32]);
    strangers.push(stranger);
    strangers
}

#[test]
fn strangers_on_the_port_neither_block_nor_break_the_rendezvous() {
    let (listeners, peers) = listeners(3);
    let strangers: Vec<_> = peers.iter().flat_map(|address| pester(*address)).collect();
    let dripping = {
        let mut stranger = TcpStream::connect(peers[0]).unwrap();
        std::thread::spawn(move || {
            // A byte at a time, for as long as anybody listens.
            let end = Instant::now() + Duration::from_secs(3);
            while Instant::now() < end && stranger.write_all(b"R").is_ok() {
                std::thread::sleep(Duration::from_millis(20));
            }
        })
    };
    let start = Instant::now();
    let refused = on_all(
        &listeners,
        |rank| config(rank, &peers),
        |ring| {
            let mut ring = ring.unwrap();
            let mut data = [1.0; 100];
            ring.all_reduce_f32(&mut data, Wire::F32).unwrap();
            assert_eq!(data[0], 3.0);
            ring.stats().refused_connections
        },
    );
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    assert!(refused.iter().all(|refused| *refused >= 3), "{refused:?}");
    drop(strangers);
    dripping.join().unwrap();
}

#[test]
fn a_flood_of_strangers_lets_the_ring_through() {
    let (listeners, peers) = listeners(2);
    let flood: Vec<TcpStream> = (0..100).map(|_| TcpStream::connect(peers[1]).unwrap()).collect();
    let more = {
        let address = peers[1];
        std::thread::spawn(move || {
            let end = Instant::now() + Duration::from_millis(500);
            let mut flood = Vec::new();
            while Instant::now() < end && flood.len() < 300 {
                flood.extend(TcpStream::connect_timeout(&address, Duration::from_millis(100)));
            }
        })
    };
    on_all(&listeners, |rank| config(rank, &peers), |ring| ring.unwrap().barrier().unwrap());
    drop(flood);
    more.join().unwrap();
}

#[test]
fn a_wrong_secret_is_named_with_rank_and_address() {
    let (listeners, peers) = listeners(2);
    let results = on_all(
        &listeners,
        |rank| RingConfig {
            secret: JobSecret::new([rank as u8; 32]),
            connect_timeout: Duration::from_millis(500),
            ..config(rank, &peers)
        },
        |ring| ring.err().unwrap(),
    );
    for (rank, error) in results.iter().enumerate() {
        let RingError::Handshake { rank: other, address, cause: HandshakeFault::Unproven } = error else {
            panic!("{error}")
        };
        assert_eq!((*other, *address), (1 - rank, peers[1 - rank]));
        assert!(error.to_string().contains(&format!("rank {} at {}", 1 - rank, peers[1 - rank])));
    }
}

#[test]
fn stale_generations_are_refused_and_the_present_one_forms() {
    let (listeners, peers) = listeners(2);
    std::thread::scope(|scope| {
        // Rank 0 of generation 6 is a zombie: it dials rank 1, which is at generation 7.
        let stale_listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut stale_peers = peers.clone();
        stale_peers[0] = stale_listener.local_addr().unwrap();
        let stale = RingConfig {
            generation: 6,
            connect_timeout: Duration::from_millis(1500),
            ..config(0, &stale_peers)
        };
        let zombie = scope.spawn(move || Ring::connect(stale, &stale_listener).err().unwrap());
        std::thread::sleep(Duration::from_millis(100));
        let late = scope.spawn(|| {
            let ring = Ring::connect(config(1, &peers), &listeners[1]).unwrap();
            (ring.stats().refused_connections, ring)
        });
        // The zombie is turned away while rank 1 waits for the right rank 0.
        std::thread::sleep(Duration::from_millis(300));
        let first = Ring::connect(config(0, &peers), &listeners[0]).unwrap();
        let (refused, second) = late.join().unwrap();
        assert!(refused >= 1);
        let error = zombie.join().unwrap();
        assert!(matches!(error, RingError::Handshake { rank: 1, .. }), "{error}");
        drop((first, second));
    });
}

#[test]
fn a_rank_that_never_comes_is_named() {
    let (mut listeners, peers) = listeners(3);
    // Rank 2's port is closed: connections to it are refused.
    listeners.truncate(2);
    let results = on_all(
        &listeners,
        |rank| RingConfig { connect_timeout: Duration::from_millis(400), ..config(rank, &peers) },
        |ring| ring.err().unwrap(),
    );
    for error in results {
        let RingError::Handshake { rank: 2, address, .. } = &error else { panic!("{error}") };
        assert_eq!(*address, peers[2]);
    }
    // A listener that nobody serves: connections succeed and nothing answers.
    let (listeners, peers) = self::listeners(2);
    let config = RingConfig { connect_timeout: Duration::from_millis(300), ..config(0, &peers) };
    let error = Ring::connect(config, &listeners[0]).err().unwrap();
    assert!(error.to_string().contains("not answered within 30"), "{error}");
}

#[test]
fn forming_a_ring_can_be_aborted() {
    let (listeners, peers) = listeners(2);
    let config = config(0, &peers);
    let abort = config.abort.clone();
    let stopper = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(100));
        abort.abort("generation 8 begins");
    });
    let start = Instant::now();
    let error = Ring::connect(config, &listeners[0]).err().unwrap();
    assert_eq!(error.to_string(), "aborted: generation 8 begins");
    assert!(start.elapsed() < Duration::from_secs(5));
    stopper.join().unwrap();
}

#[test]
fn one_listener_serves_one_generation_after_the_other() {
    let (listeners, peers) = listeners(3);
    for generation in 1..5 {
        on_all(
            &listeners,
            |rank| RingConfig { generation, ..config(rank, &peers) },
            |ring| {
                let mut ring = ring.unwrap();
                let mut data = [1.0; 10];
                ring.all_reduce_f32(&mut data, Wire::F32).unwrap();
                assert_eq!((data[9], ring.generation()), (3.0, generation));
            },
        );
    }
}

#[test]
fn contradictions_in_the_configuration_are_errors() {
    let (listeners, peers) = listeners(2);
    let wrong = |config: RingConfig, text: &str| match Ring::connect(config, &listeners[0]) {
        Err(RingError::Config(message)) => assert!(message.contains(text), "{message}"),
        _ => panic!("{text}"),
    };
    wrong(RingConfig { rank: 2, ..config(0, &peers) }, "rank 2 in a world of 2");
    wrong(RingConfig { world: 3, ..config(0, &peers) }, "2 addresses for a world of 3");
    wrong(RingConfig { chunk_bytes: 1, ..config(0, &peers) }, "chunks of 1 bytes");
    wrong(RingConfig { socket_buffer_bytes: 1, ..config(0, &peers) }, "buffers of 1 bytes");
    wrong(RingConfig { io_timeout: Duration::ZERO, ..config(0, &peers) }, "timeout");
}

#[test]
fn the_last_bytes_arrive_although_their_sender_is_gone() {
    for _ in 0..20 {
        let (listeners, peers) = listeners(4);
        on_all(
            &listeners,
            |rank| config(rank, &peers),
            |ring| {
                let mut ring = ring.unwrap();
                let mut data = vec![1.0; 600_000];
                ring.all_reduce_f32(&mut data, Wire::F32).unwrap();
                assert!(data.iter().all(|value| *value == 4.0));
            },
        );
    }
}

#[test]
fn a_stranger_cannot_read_anything_without_the_secret() {
    let (listeners, peers) = listeners(2);
    std::thread::scope(|scope| {
        let lonely = RingConfig { connect_timeout: Duration::from_millis(700), ..config(0, &peers) };
        let ring = scope.spawn(|| Ring::connect(lonely, &listeners[0]).err().unwrap());
        let mut stranger = TcpStream::connect(peers[0]).unwrap();
        stranger.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let mut answer = [0; 256];
        assert!(stranger.read(&mut answer).is_err(), "the listener does not speak first");
        stranger.write_all(&[1; 72]).unwrap();
        assert_eq!(stranger.read(&mut answer).unwrap_or(0), 0, "and never to garbage");
        ring.join().unwrap();
    });
}
