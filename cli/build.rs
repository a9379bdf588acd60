//! Makes the executables need nothing but glibc: unwinding comes from the static libgcc (`link/libgcc_s.so`).

fn main() {
    println!("cargo::rerun-if-changed=link");
    if std::env::var("CARGO_CFG_TARGET_ENV").as_deref() == Ok("gnu") {
        println!("cargo::rustc-link-arg=-L{}/link", env!("CARGO_MANIFEST_DIR"));
    }
}
