//! Bands by the tiles of AMX: 32 × 32 sums in four tiles, from two tiles of a and two of b a step.
//!
//! `std::arch` has no stable AMX, so that the instructions stand in assembly; one block holds a whole sum, since nothing
//! is promised about tiles between blocks. Rows and columns that do not fill a tile are left out of its configuration:
//! nothing is padded, read or written beyond them.

use super::super::super::lanes::LANES;
use super::{Band, STEP, Start, TALLEST};
use std::arch::asm;
use std::sync::OnceLock;

/// Whether the CPU has tiles of bf16 and Linux lets this process use them, for which it is asked once.
pub(in crate::kernels) fn has_tiles() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| {
        // CPUID leaf 7, EDX: AMX-BF16 and AMX-TILE.
        const FEATURES: u32 = 1 << 22 | 1 << 24;
        let leaf = std::arch::x86_64::__cpuid(0).eax;
        leaf >= 7 && std::arch::x86_64::__cpuid_count(7, 0).edx & FEATURES == FEATURES && permitted()
    })
}

/// Asks for the tiles' registers, which threads get only on request: 8 KiB more to save at every switch.
#[cfg(target_os = "linux")]
fn permitted() -> bool {
    // From Linux' asm/prctl.h, since 5.16.
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_long = 18;
    // SAFETY: the call reads and writes no memory of ours; kernels that do not know it return an error.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
}

#[cfg(not(target_os = "linux"))]
fn permitted() -> bool {
    false
}

/// Rows of the two tiles of a (the second may be absent: 0), and columns of the two of b.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Sizes {
    rows: [usize; 2],
    columns: [usize; 2],
}

/// The tiles of this thread, configured for some sizes.
pub(super) struct Tiles {
    sizes: Option<Sizes>,
}

/// What `LDTILECFG` reads.
#[repr(C, align(64))]
struct Configuration {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    bytes: [u16; 16],
    rows: [u8; 16],
}

/// Arguments of one block of assembly that it reads from memory, having too few registers.
#[repr(C)]
struct Ends {
    /// What the sums of both tiles of rows begin with, and bytes between its rows.
    from: [*const f32; 2],
    from_stride: usize,
    /// Where they go.
    to: [*mut f32; 2],
    to_stride: usize,
}

/// The sums of one configuration: what begins, what every step does, what ends.
macro_rules! sums {
    ($steps:expr, $ends:expr, [$($begin:literal),*], [$($step:literal),*], [$($end:literal),*]) => {
        asm!(
            "mov {y}, [{ends} + 16]",
            "mov {x}, [{ends}]",
            $($begin,)*
            "test {n}, {n}",
            "jz 3f",
            "2:",
            "mov {y:e}, dword ptr [{segments}]",
            "lea {x}, [{a0} + 2*{y}]",
            "lea {y}, [{a1} + 2*{y}]",
            $($step,)*
            "add {segments}, 4",
            "dec {n}",
            "jnz 2b",
            "3:",
            "mov {y}, [{ends} + 40]",
            "mov {x}, [{ends} + 24]",
            $($end,)*
            ends = in(reg) &raw const $ends,
            a0 = in(reg) $steps.a[0],
            a1 = in(reg) $steps.a[1],
            a = in(reg) $steps.a_stride,
            b = inout(reg) $steps.b => _,
            line = in(reg) 64usize,
            segments = inout(reg) $steps.segments.as_ptr() => _,
            n = inout(reg) $steps.segments.len() => _,
            x = out(reg) _,
            y = out(reg) _,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack)
        )
    };
}

/// What the steps of a sum read.
#[derive(Clone, Copy)]
struct Steps<'a> {
    a: [*const u16; 2],
    /// Bytes between rows.
    a_stride: usize,
    b: *const f32,
    segments: &'a [u32],
}

/// Which rows of a band two tiles take.
#[derive(Clone, Copy)]
struct Place {
    line: usize,
    row: usize,
}

impl Tiles {
    pub(super) fn new() -> Tiles {
        Tiles { sizes: None }
    }

    /// # Safety
    /// As [`super::Engine::run`].
    pub(super) unsafe fn run(&mut self, band: &Band<'_>) {
        if band.rows == 0 || band.columns == 0 {
            return;
        }
        let height = band.rows.div_ceil(band.rows.div_ceil(TALLEST));
        // All tiles of the full height, then what is left of each line.
        let (full, rest) = (band.rows / height, band.rows % height);
        for (first, count, height) in [(0, full, height), (full * height, usize::from(rest > 0), rest)] {
            let place = |i: usize| Place { line: i / count, row: first + i % count * height };
            let all = band.lines * count;
            for i in (0..all).step_by(2) {
                let second = (i + 1 < all).then(|| place(i + 1));
                // SAFETY: the caller vouches for every line and row.
                unsafe { self.sum(band, place(i), second, height) };
            }
        }
    }

    /// # Safety
    /// As [`super::Engine::run`], for `height` rows at one or two places.
    unsafe fn sum(&mut self, band: &Band<'_>, first: Place, second: Option<Place>, height: usize) {
        const NOTHING: [f32; STEP] = [0.0; STEP];
        let places = [first, second.unwrap_or(first)];
        let columns = [band.columns.min(LANES), band.columns.saturating_sub(LANES)];
        let rows = [height, if second.is_some() { height } else { 0 }];
        let to = places.map(|at| band.c.wrapping_add(at.line * band.c_line + at.row * band.c_row));
        // With a distance of 0 every row of a tile is the same.
        let (from, from_stride) = match band.start {
            Start::Zero => ([NOTHING.as_ptr(); 2], 0),
            Start::Bias(bias) => ([bias; 2], 0),
            Start::Memory => (to.map(<*mut f32>::cast_const), band.c_row * size_of::<f32>()),
        };
        let ends = Ends { from, from_stride, to, to_stride: band.c_row * size_of::<f32>() };
        let steps = Steps {
            a: places.map(|at| band.a.wrapping_add(at.line * band.a_line + at.row * band.a_row)),
            a_stride: band.a_row * size_of::<u16>(),
            b: band.b,
            segments: band.segments,
        };
        self.configure(Sizes { rows, columns });
        // SAFETY: the tiles are configured for these rows and columns; the caller vouches for what lies behind the
        // pointers, and `has_tiles` for the instructions.
        unsafe {
            match (second.is_some(), columns[1] > 0) {
                (true, true) => two_by_two(steps, ends),
                (true, false) => two_by_one(steps, ends),
                (false, true) => one_by_two(steps, ends),
                (false, false) => one_by_one(steps, ends),
            }
        }
    }

    /// Tiles 0 to 3 are sums, 4 and 5 a, 6 and 7 b.
    fn configure(&mut self, sizes: Sizes) {
        if self.sizes == Some(sizes) {
            return;
        }
        self.sizes = Some(sizes);
        let mut configuration =
            Configuration { palette: 1, start_row: 0, reserved: [0; 14], bytes: [0; 16], rows: [0; 16] };
        let mut set = |tile: usize, rows: usize, bytes: usize| {
            if rows > 0 && bytes > 0 {
                (configuration.rows[tile], configuration.bytes[tile]) = (rows as u8, bytes as u16);
            }
        };
        for (i, rows) in sizes.rows.into_iter().enumerate() {
            set(4 + i, rows, STEP * size_of::<u16>());
            for (j, columns) in sizes.columns.into_iter().enumerate() {
                set(2 * i + j, rows, columns * size_of::<f32>());
                set(6 + j, STEP / 2, columns * size_of::<f32>());
            }
        }
        // SAFETY: rows and bytes are within palette 1, of 16 rows of 64 bytes; `has_tiles` vouches for the instruction.
        unsafe { asm!("ldtilecfg [{0}]", in(reg) &raw const configuration, options(nostack)) };
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        if self.sizes.is_some() {
            // SAFETY: tiles are in use, so that the CPU has them; what they hold is stored.
            unsafe { asm!("tilerelease", options(nostack, nomem)) };
        }
    }
}

/// # Safety
/// The tiles are configured for two tiles of rows and two of columns; everything that is pointed at is there.
unsafe fn two_by_two(steps: Steps<'_>, ends: Ends) {
    // SAFETY: the caller vouches for it.
    unsafe {
        sums!(
            steps,
            ends,
            [
                "tileloadd tmm0, [{x} + {y}*1]",
                "tileloadd tmm1, [{x} + {y}*1 + 64]",
                "mov {x}, [{ends} + 8]",
                "tileloadd tmm2, [{x} + {y}*1]",
                "tileloadd tmm3, [{x} + {y}*1 + 64]"
            ],
            [
                "tileloadd tmm6, [{b} + {line}*1]",
                "tileloadd tmm4, [{x} + {a}*1]",
                "tileloadd tmm7, [{b} + {line}*1 + 1024]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm5, [{y} + {a}*1]",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "add {b}, 2048"
            ],
            [
                "tilestored [{x} + {y}*1], tmm0",
                "tilestored [{x} + {y}*1 + 64], tmm1",
                "mov {x}, [{ends} + 32]",
                "tilestored [{x} + {y}*1], tmm2",
                "tilestored [{x} + {y}*1 + 64], tmm3"
            ]
        );
    }
}

/// # Safety
/// As [`two_by_two`], for one tile of columns.
unsafe fn two_by_one(steps: Steps<'_>, ends: Ends) {
    // SAFETY: the caller vouches for it.
    unsafe {
        sums!(
            steps,
            ends,
            ["tileloadd tmm0, [{x} + {y}*1]", "mov {x}, [{ends} + 8]", "tileloadd tmm2, [{x} + {y}*1]"],
            [
                "tileloadd tmm6, [{b} + {line}*1]",
                "tileloadd tmm4, [{x} + {a}*1]",
                "tileloadd tmm5, [{y} + {a}*1]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "add {b}, 1024"
            ],
            ["tilestored [{x} + {y}*1], tmm0", "mov {x}, [{ends} + 32]", "tilestored [{x} + {y}*1], tmm2"]
        );
    }
}

/// # Safety
/// As [`two_by_two`], for one tile of rows.
unsafe fn one_by_two(steps: Steps<'_>, ends: Ends) {
    // SAFETY: the caller vouches for it.
    unsafe {
        sums!(
            steps,
            ends,
            ["tileloadd tmm0, [{x} + {y}*1]", "tileloadd tmm1, [{x} + {y}*1 + 64]"],
            [
                "tileloadd tmm6, [{b} + {line}*1]",
                "tileloadd tmm4, [{x} + {a}*1]",
                "tileloadd tmm7, [{b} + {line}*1 + 1024]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "add {b}, 2048"
            ],
            ["tilestored [{x} + {y}*1], tmm0", "tilestored [{x} + {y}*1 + 64], tmm1"]
        );
    }
}

/// # Safety
/// As [`two_by_two`], for one tile of rows and one of columns.
unsafe fn one_by_one(steps: Steps<'_>, ends: Ends) {
    // SAFETY: the caller vouches for it.
    unsafe {
        sums!(
            steps,
            ends,
            ["tileloadd tmm0, [{x} + {y}*1]"],
            [
                "tileloadd tmm6, [{b} + {line}*1]",
                "tileloadd tmm4, [{x} + {a}*1]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "add {b}, 1024"
            ],
            ["tilestored [{x} + {y}*1], tmm0"]
        );
    }
}
