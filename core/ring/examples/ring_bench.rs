//! Measures the ring between processes of this machine: `ring_bench --world 4 [--json]`.
//!
//! Starts itself `world` times; the processes form a ring over loopback TCP and time all-reduces of several sizes.
//! Between two sizes they time *raw TCP*: every process sends to the next and receives from the previous one, at the same
//! time, as many bytes as the all-reduce of that size moves, from the vector, and forgets what it receives: into
//! one chunk again and again. What the kernel gives to such a process is the limit of any ring between these endpoints.
//!
//! Bus bandwidth = 2(N−1)/N · bytes / median time.

use ringspin_job::JobSecret;
use ringspin_ring::{Abort, Ring, RingConfig, RingStats, Wire};
use rustix::event::{PollFd, PollFlags, poll};
use socket2::{Domain, Protocol, Socket, Type};
use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

const HELP: &str = "\
ring_bench: time all-reduces between processes on loopback, beside raw TCP
  --world N           processes (2)
  --sizes A,B,...     KiB of the vector (4,8,64,256,1024,4096,16384,65536,262144)
  --wire f32|bf16     how values travel (f32)
  --chunk KIB         chunk of the ring (its default)
  --buffer KIB        socket buffers; 0 leaves them to the system (0)
  --budget MIB        bytes a size is measured with, at least 5 and at most 400 times (512)
  --no-raw            without raw TCP
  --tcp               between hosts: without the memory that processes of one host share
  --stats             where rank 0 spent its time
  --json              one JSON document a size";

type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

#[derive(Clone)]
struct Options {
    world: usize,
    sizes_kib: Vec<usize>,
    wire: Wire,
    chunk_bytes: usize,
    buffer_bytes: usize,
    budget_bytes: usize,
    raw: bool,
    tcp: bool,
    stats: bool,
    json: bool,
    /// Set in the processes that do the work.
    rank: Option<usize>,
}

fn main() -> Fallible<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some(options) = parse(&arguments)? else {
        println!("{HELP}");
        return Ok(());
    };
    match options.rank {
        Some(rank) => work(rank, &options),
        None => supervise(&arguments, &options),
    }
}

fn parse(arguments: &[String]) -> Fallible<Option<Options>> {
    let mut options = Options {
        world: 2,
        sizes_kib: vec![4, 8, 64, 256, 1024, 4096, 16_384, 65_536, 262_144],
        wire: Wire::F32,
        chunk_bytes: RingConfig::DEFAULT_CHUNK_BYTES,
        buffer_bytes: 0,
        budget_bytes: 512 << 20,
        raw: true,
        tcp: false,
        stats: false,
        json: false,
        rank: None,
    };
    let mut rest = arguments.iter();
    while let Some(flag) = rest.next() {
        let mut value = || rest.next().ok_or_else(|| format!("{flag} needs a value"));
        match flag.as_str() {
            "--help" | "-h" => return Ok(None),
            "--world" => options.world = value()?.parse()?,
            "--sizes" => options.sizes_kib = value()?.split(',').map(str::parse).collect::<Result<_, _>>()?,
            "--wire" => options.wire = if value()? == "bf16" { Wire::Bf16 } else { Wire::F32 },
            "--chunk" => options.chunk_bytes = value()?.parse::<usize>()? << 10,
            "--buffer" => options.buffer_bytes = value()?.parse::<usize>()? << 10,
            "--budget" => options.budget_bytes = value()?.parse::<usize>()? << 20,
            "--rank" => options.rank = Some(value()?.parse()?),
            "--no-raw" => options.raw = false,
            "--tcp" => options.tcp = true,
            "--stats" => options.stats = true,
            "--json" => options.json = true,
            other => return Err(format!("unknown flag {other}\n{HELP}").into()),
        }
    }
    Ok(Some(options))
}

/// Starts the ranks and tells each where all listen; only rank 0 prints results.
fn supervise(arguments: &[String], options: &Options) -> Fallible<()> {
    let start = |rank: usize| {
        Command::new(std::env::current_exe()?)
            .args(arguments)
            .args(["--rank", &rank.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
    };
    let mut children: Vec<Child> = (0..options.world).map(start).collect::<Result<_, _>>()?;
    let outputs: Vec<_> = children.iter_mut().filter_map(|child| child.stdout.take()).collect();
    let mut outputs: Vec<_> = outputs.into_iter().map(BufReader::new).collect();
    let mut addresses = Vec::new();
    for output in &mut outputs {
        let mut line = String::new();
        output.read_line(&mut line)?;
        addresses.push(line.trim().to_string());
    }
    for child in &mut children {
        let mut input = child.stdin.take().ok_or("a child without standard input")?;
        writeln!(input, "{}", addresses.join(" "))?;
    }
    for line in outputs.remove(0).lines() {
        println!("{}", line?);
    }
    for child in &mut children {
        if !child.wait()?.success() {
            return Err("a rank has failed".into());
        }
    }
    Ok(())
}

/// One rank.
fn work(rank: usize, options: &Options) -> Fallible<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let raw_listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{},{}", listener.local_addr()?, raw_listener.local_addr()?);
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    let mut peers: Vec<SocketAddr> = Vec::new();
    let mut raw_peers: Vec<SocketAddr> = Vec::new();
    for pair in line.split_whitespace() {
        let (ring, raw) = pair.split_once(',').ok_or("an address of two parts")?;
        peers.push(ring.parse()?);
        raw_peers.push(raw.parse()?);
    }
    let mut ring = connect(rank, options, peers, &listener)?;
    let mut raw = RawLinks::connect(rank, &raw_peers, &raw_listener)?;
    for kib in &options.sizes_kib {
        measure(kib << 10, options, &mut ring, &mut raw)?;
    }
    Ok(())
}

fn connect(rank: usize, options: &Options, peers: Vec<SocketAddr>, listener: &TcpListener) -> Fallible<Ring> {
    let config = RingConfig {
        rank,
        world: options.world,
        generation: 1,
        attempt: 1,
        peers,
        secret: JobSecret::new([1; 32]),
        connect_timeout: Duration::from_secs(30),
        io_timeout: Duration::from_secs(60),
        chunk_bytes: options.chunk_bytes,
        socket_buffer_bytes: options.buffer_bytes,
        shared_memory: !options.tcp,
        abort: Abort::new(),
    };
    Ok(Ring::connect(config, listener)?)
}

/// Times one size: ring and raw TCP in turns, a quarter of the repetitions each.
fn measure(bytes: usize, options: &Options, ring: &mut Ring, raw: &mut RawLinks) -> Fallible<()> {
    let factor = 2.0 * (options.world as f64 - 1.0) / options.world as f64;
    let traffic = (bytes as f64 * factor) as usize;
    let repetitions = (options.budget_bytes / bytes.max(1)).clamp(5, 400);
    let mut data = vec![1.0f32; bytes / 4];
    let mut other = vec![0u8; bytes.min(options.chunk_bytes)];
    let (mut ring_times, mut raw_times) = (Vec::new(), Vec::new());
    let before = ring.stats().clone();
    for turn in 0..4 {
        ring.barrier()?;
        for repetition in 0..repetitions.div_ceil(4) + 2 {
            let start = Instant::now();
            ring.all_reduce_f32(&mut data, options.wire)?;
            // The first ones of each turn warm up.
            if repetition > 1 {
                ring_times.push(start.elapsed());
            }
        }
        data.fill(1.0);
        if !options.raw {
            continue;
        }
        ring.barrier()?;
        for repetition in 0..repetitions.div_ceil(4) + 2 {
            let start = Instant::now();
            raw.exchange(bytemuck::cast_slice(&data), &mut other, traffic, options.chunk_bytes)?;
            if repetition > 1 {
                raw_times.push(start.elapsed());
            }
        }
        if turn == 3 {
            assert_eq!(
                &other[..4.min(other.len())],
                &1.0f32.to_le_bytes()[..4.min(other.len())],
                "raw bytes arrived"
            );
        }
    }
    if ring.rank() == 0 {
        let bus = |time: Duration| factor * bytes as f64 / time.as_secs_f64() / 1e9;
        let (ours, limit) = (median(&mut ring_times), median(&mut raw_times));
        print_row(bytes, options, ours, bus(ours), if limit.is_zero() { 0.0 } else { bus(limit) });
        if options.stats {
            print_stats(&before, ring.stats());
        }
    }
    Ok(())
}

fn print_row(bytes: usize, options: &Options, time: Duration, ours: f64, limit: f64) {
    let (world, us) = (options.world, time.as_secs_f64() * 1e6);
    let ratio = if limit > 0.0 { ours / limit } else { 0.0 };
    if options.json {
        let wire = if options.wire == Wire::Bf16 { "bf16" } else { "f32" };
        println!(
            "{{\"world\":{world},\"wire\":\"{wire}\",\"bytes\":{bytes},\"median_us\":{us:.1},\"bus_gbps\":{ours:.3},\"raw_gbps\":{limit:.3},\"of_raw\":{ratio:.3}}}"
        );
    } else {
        let kib = bytes >> 10;
        println!(
            "world {world} {kib:7} KiB  median {us:10.0} us  bus {ours:6.2} GB/s  raw TCP {limit:6.2} GB/s  ratio {ratio:.2}"
        );
    }
}

fn print_stats(before: &RingStats, after: &RingStats) {
    println!(
        "    busy {:?}, reducing {:?}, waits {} in {} operations",
        after.busy - before.busy,
        after.reducing - before.reducing,
        after.waits - before.waits,
        after.operations - before.operations
    );
    for (now, then) in after.neighbours.iter().zip(&before.neighbours) {
        let (direction, waiting) = (if now.receives { "from" } else { "to" }, now.waiting - then.waiting);
        let late = now.late - then.late;
        println!(
            "    {direction} rank {}: {} bytes, waited {waiting:?}, late {late:?}",
            now.rank,
            now.bytes - then.bytes
        );
    }
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// One connection to the next rank and one from the previous, with nothing on top.
struct RawLinks {
    next: TcpStream,
    previous: TcpStream,
}

impl RawLinks {
    fn connect(rank: usize, peers: &[SocketAddr], listener: &TcpListener) -> io::Result<Self> {
        // Without pacing, as the ring does between ranks of one host.
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
        rustix::net::sockopt::set_tcp_congestion(&socket, "reno")?;
        socket.connect(&peers[(rank + 1) % peers.len()].into())?;
        let next = TcpStream::from(socket);
        let (previous, _) = listener.accept()?;
        for stream in [&next, &previous] {
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
        }
        Ok(RawLinks { next, previous })
    }

    /// Sends `traffic` bytes of `from`, from its start again when it ends, and receives as many into `to`.
    fn exchange(&mut self, from: &[u8], to: &mut [u8], traffic: usize, chunk: usize) -> io::Result<()> {
        let (mut sent, mut received) = (0, 0);
        while sent < traffic || received < traffic {
            let mut moved = false;
            if sent < traffic {
                let at = sent % from.len();
                let end = from.len().min(at + (traffic - sent)).min(at + (1 << 20));
                let bytes = or_zero((&self.next).write(&from[at..end]))?;
                (sent, moved) = (sent + bytes, bytes > 0);
            }
            if received < traffic {
                let at = received % to.len();
                let end = to.len().min(at + (traffic - received)).min(at + chunk);
                let bytes = or_zero((&self.previous).read(&mut to[at..end]))?;
                (received, moved) = (received + bytes, moved || bytes > 0);
            }
            if !moved {
                let mut fds =
                    [PollFd::new(&self.previous, PollFlags::IN), PollFd::new(&self.next, PollFlags::OUT)];
                let wanted = if sent < traffic { 2 } else { 1 };
                let first = usize::from(received == traffic);
                poll(&mut fds[first..wanted], None)?;
            }
        }
        Ok(())
    }
}

fn or_zero(moved: io::Result<usize>) -> io::Result<usize> {
    match moved {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        other => other,
    }
}
